// Gated activations: two operands and one result, 12 bytes per f32 element; backward three and two,
// 20 bytes. Arithmetic in f32 (f64 for f64), the activation evaluated again in backward instead of
// being stored.
#include "cpp/ops/dense/gated.h"

#include "cpp/cpu/chunk.h"
#include "cpp/cpu/pointwise.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

using ops::GatedKind;

TensorView half(const TensorView& t, int which) {
  TensorView v = t;
  const int last = t.rank - 1;
  v.shape[last] /= 2;
  v.offset += which * v.shape[last] * v.stride[last];
  return v;
}

// Calls f(Activation{}).
template <class F>
void withActivation(GatedKind kind, F&& f) {
  switch (kind) {
    case GatedKind::swiglu:
      return f(pointwise::Silu{});
    case GatedKind::geglu:
      return f(pointwise::Gelu{});
    case GatedKind::gegluTanh:
      return f(pointwise::GeluTanh{});
    case GatedKind::reglu:
      return f(pointwise::Relu{});
    case GatedKind::glu:
      return f(pointwise::Sigmoid{});
  }
}

template <class Op, class V>
LONGSPAN_INLINE V slopeAt(V x) {
  return Op::slope(Op::fromOutput ? Op::value(x) : x);
}

// The activated operand comes first here: gradients of s and t of value(s) t.
template <class Op, class A>
void backwardArrays(const A* g, const A* s, const A* t, A* gradS, A* gradT, int64_t n) {
  const auto both = [](auto gv, auto sv, auto tv, auto& gs, auto& gt) {
    gs = gv * tv * slopeAt<Op>(sv);
    gt = gv * Op::value(sv);
  };
  if constexpr (std::is_same_v<A, float>) {
    vf gs, gt;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      both(vload(g + i), vload(s + i), vload(t + i), gs, gt);
      vstore(gradS + i, gs);
      vstore(gradT + i, gt);
    }
    if (i < n) {
      const int rest = static_cast<int>(n - i);
      both(vloadPart(g + i, rest), vloadPart(s + i, rest), vloadPart(t + i, rest), gs, gt);
      vstorePart(gradS + i, gs, rest);
      vstorePart(gradT + i, gt, rest);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) both(g[i], s[i], t[i], gradS[i], gradT[i]);
  }
}

template <class A>
struct Maps {
  void (*forward)(const A* s, const A* t, A* y, int64_t n);
  void (*backward)(const A* g, const A* s, const A* t, A* gradS, A* gradT, int64_t n);
};

template <class A>
Maps<A> mapsOf(GatedKind kind) {
  Maps<A> maps{};
  withActivation(kind, [&](auto op) {
    using Op = decltype(op);
    maps.forward = [](const A* s, const A* t, A* y, int64_t n) {
      mapArrays(s, t, y, n, [](auto u, auto v) { return Op::value(u) * v; });
    };
    maps.backward = &backwardArrays<Op, A>;
  });
  return maps;
}

}  // namespace

Status gated(const ops::Gated& p, Context& context) {
  const bool joined = !p.b.defined();
  TensorView first = joined ? half(p.a, 0) : p.a, second = joined ? half(p.a, 1) : p.b;
  if (p.kind == GatedKind::glu) std::swap(first, second);
  const StridedLoop<3> loop({&first, &second, &p.y});
  const int64_t fs = loop.stride[0][loop.rank - 1], ss = loop.stride[1][loop.rank - 1];
  withArithmetic(p.y.dtype, [&](auto zero) {
    using A = decltype(zero);
    const Maps<A> maps = mapsOf<A>(p.kind);
    loop.forEach(context.pool, 1 << 14, [&](std::array<int64_t, 3> at, int64_t begin, int64_t end) {
      Chunk<A> left, right, out;
      for (int64_t i = begin; i < end; i += kChunk) {
        const int64_t n = std::min(kChunk, end - i);
        const A* s = loadChunk(first, at[0] + i * fs, fs, n, left.data);
        const A* t = loadChunk(second, at[1] + i * ss, ss, n, right.data);
        A* y = chunkTarget(p.y, at[2] + i, out.data);
        maps.forward(s, t, y, n);
        storeChunk(p.y, at[2] + i, n, y);
      }
    });
  });
  return {};
}

Status gatedBackward(const ops::GatedBackward& p, Context& context) {
  const bool joined = !p.b.defined();
  TensorView first = joined ? half(p.a, 0) : p.a, second = joined ? half(p.a, 1) : p.b;
  TensorView gradFirst = joined ? half(p.gradA, 0) : p.gradA;
  TensorView gradSecond = joined ? half(p.gradA, 1) : p.gradB;
  if (p.kind == GatedKind::glu) {
    std::swap(first, second);
    std::swap(gradFirst, gradSecond);
  }
  const StridedLoop<5> loop({&p.gradY, &first, &second, &gradFirst, &gradSecond});
  const int inner = loop.rank - 1;
  const int64_t gs = loop.stride[0][inner], fs = loop.stride[1][inner], ss = loop.stride[2][inner];
  // The halves of a joined gradient with one column each lie two apart.
  const int64_t gfs = loop.stride[3][inner], gss = loop.stride[4][inner];
  withArithmetic(p.a.dtype, [&](auto zero) {
    using A = decltype(zero);
    const Maps<A> maps = mapsOf<A>(p.kind);
    loop.forEach(context.pool, 1 << 14, [&](std::array<int64_t, 5> at, int64_t begin, int64_t end) {
      Chunk<A> grads, left, right, outFirst, outSecond;
      for (int64_t i = begin; i < end; i += kChunk) {
        const int64_t n = std::min(kChunk, end - i);
        const A* g = loadChunk(p.gradY, at[0] + i * gs, gs, n, grads.data);
        const A* s = loadChunk(first, at[1] + i * fs, fs, n, left.data);
        const A* t = loadChunk(second, at[2] + i * ss, ss, n, right.data);
        A* gradS = chunkTarget(gradFirst, at[3] + i * gfs, outFirst.data, gfs);
        A* gradT = chunkTarget(gradSecond, at[4] + i * gss, outSecond.data, gss);
        maps.backward(g, s, t, gradS, gradT, n);
        storeChunk(gradFirst, at[3] + i * gfs, n, gradS, gfs);
        storeChunk(gradSecond, at[4] + i * gss, n, gradT, gss);
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
