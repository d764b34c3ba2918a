// What an operator's parameters are made of. A params struct lists its fields once, in
//
//   template <class V> void fields(V& v) { v.input("x", x); v.scalar("eps", eps); v.output("y", y); }
//
// and everything that must know them visits that list: describe() for TypeScript, the reader of
// packed calls, the collector of buffers, the binder of addresses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpp/core/tensor_view.h"

namespace longspan {

using TensorList = std::vector<TensorView>;

// The numbers are the packed order's contract with lib/native.ts.
enum class FieldKind : uint8_t {
  input,         // tensor, required
  optional,      // tensor or absent
  inputs,        // list of tensors
  inout,         // tensor that is read and written in place
  inouts,        // list of such
  optionalInouts,  // list of such, possibly empty
  number,        // f64
  integer,       // i64, exact up to 2^53
  flag,          // bool
  choice,        // index into a list of names
  integers,      // list of i64
  output,        // tensor allocated by the call, shape given by validate()
  outputs,       // list of such
};

struct FieldDescription {
  FieldKind kind;
  std::string name;
  std::vector<std::string> choices;
};

// Visits a field list without touching values.
class FieldDescriber {
 public:
  std::vector<FieldDescription> fields;
  void input(const char* name, TensorView&) { add(FieldKind::input, name); }
  void optional(const char* name, TensorView&) { add(FieldKind::optional, name); }
  void inputs(const char* name, TensorList&) { add(FieldKind::inputs, name); }
  void inout(const char* name, TensorView&) { add(FieldKind::inout, name); }
  void inouts(const char* name, TensorList&) { add(FieldKind::inouts, name); }
  void optionalInouts(const char* name, TensorList&) { add(FieldKind::optionalInouts, name); }
  void number(const char* name, double&) { add(FieldKind::number, name); }
  void integer(const char* name, int64_t&) { add(FieldKind::integer, name); }
  void flag(const char* name, bool&) { add(FieldKind::flag, name); }
  void integers(const char* name, std::vector<int64_t>&) { add(FieldKind::integers, name); }
  template <class E>
  void choice(const char* name, E&, std::vector<std::string> names) {
    fields.push_back({FieldKind::choice, name, std::move(names)});
  }
  void output(const char* name, TensorView&) { add(FieldKind::output, name); }
  void outputs(const char* name, TensorList&) { add(FieldKind::outputs, name); }

 private:
  void add(FieldKind kind, const char* name) { fields.push_back({kind, name, {}}); }
};

// Calls onTensor(view, reads, writes, fresh) for every tensor that is present.
template <class F>
class TensorVisitor {
 public:
  explicit TensorVisitor(F onTensor) : onTensor_(onTensor) {}
  void input(const char*, TensorView& t) { visit(t, true, false, false); }
  void optional(const char*, TensorView& t) { visit(t, true, false, false); }
  void inputs(const char*, TensorList& list) { visitAll(list, true, false, false); }
  void inout(const char*, TensorView& t) { visit(t, true, true, false); }
  void inouts(const char*, TensorList& list) { visitAll(list, true, true, false); }
  void optionalInouts(const char*, TensorList& list) { visitAll(list, true, true, false); }
  void number(const char*, double&) {}
  void integer(const char*, int64_t&) {}
  void flag(const char*, bool&) {}
  void integers(const char*, std::vector<int64_t>&) {}
  template <class E>
  void choice(const char*, E&, const std::vector<std::string>&) {}
  void output(const char*, TensorView& t) { visit(t, false, true, true); }
  void outputs(const char*, TensorList& list) { visitAll(list, false, true, true); }

 private:
  void visit(TensorView& t, bool reads, bool writes, bool fresh) {
    if (t.defined()) onTensor_(t, reads, writes, fresh);
  }
  void visitAll(TensorList& list, bool reads, bool writes, bool fresh) {
    for (TensorView& t : list) visit(t, reads, writes, fresh);
  }
  F onTensor_;
};

}  // namespace longspan
