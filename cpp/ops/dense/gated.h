// gated: an activation of one half times the other (Dauphin et al. 2017, Shazeer 2020). a and b are
// given apart, or as the halves of a's last axis when b is absent.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

// swiglu silu(a) b, geglu gelu(a) b, geluTanh likewise, reglu relu(a) b; glu a sigmoid(b).
enum class GatedKind : int { swiglu, geglu, gegluTanh, reglu, glu };

struct Gated {
  static constexpr const char* name = "gated";
  TensorView a, b, y;
  GatedKind kind = GatedKind::swiglu;

  template <class V>
  void fields(V& v) {
    v.input("a", a);
    v.optional("b", b);
    v.choice("kind", kind, {"swiglu", "geglu", "gegluTanh", "reglu", "glu"});
    v.output("y", y);
  }
  Status validate();
};

// gradA has the shape of a, so both halves when b is absent; gradB that of b.
struct GatedBackward {
  static constexpr const char* name = "gatedBackward";
  TensorView gradY, a, b, gradA, gradB;
  GatedKind kind = GatedKind::swiglu;

  template <class V>
  void fields(V& v) {
    v.input("gradY", gradY);
    v.input("a", a);
    v.optional("b", b);
    v.choice("kind", kind, {"swiglu", "geglu", "gegluTanh", "reglu", "glu"});
    v.output("gradA", gradA);
    v.output("gradB", gradB);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Gated, gated)
LONGSPAN_CPU_KERNEL(ops::GatedBackward, gatedBackward)
}  // namespace longspan::cpu
