// What an operator's parameters are made of. A params struct lists its fields once, in
//
//   template <class V> void fields(V& v) { v.input("x", x); v.number("eps", eps); v.output("y", y);
//   }
//
// and everything that must know them visits that list: describe() for TypeScript, the reader of
// packed calls, the collector of buffers, the binder of addresses, the writer of outputs.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "cpp/core/tensor_view.h"

namespace longspan {

using TensorList = std::vector<TensorView>;

enum class FieldKind : uint8_t {
  input,           // tensor, required
  optional,        // tensor or absent
  inputs,          // list of tensors
  inout,           // tensor that is read and written in place
  inouts,          // list of such
  optionalInouts,  // list of such, possibly empty
  number,          // f64
  integer,         // i64, exact up to 2^53
  flag,            // bool
  choice,          // index into a list of names
  integers,        // list of i64
  group,           // fields that a call gives together or not at all, until groupEnd
  groupEnd,
  output,   // tensor allocated by the call, shape given by validate()
  outputs,  // list of such
};

constexpr bool isOutput(FieldKind kind) {
  return kind == FieldKind::output || kind == FieldKind::outputs;
}
constexpr bool isInout(FieldKind kind) {
  return kind == FieldKind::inout || kind == FieldKind::inouts || kind == FieldKind::optionalInouts;
}

using Names = std::span<const char* const>;

// Visitors override what concerns them. One class, not a template: an operator's field list is
// compiled once, whatever the number of visitors.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;

  void input(const char* name, TensorView& t) { tensor(FieldKind::input, name, t); }
  void optional(const char* name, TensorView& t) { tensor(FieldKind::optional, name, t); }
  void inout(const char* name, TensorView& t) { tensor(FieldKind::inout, name, t); }
  void output(const char* name, TensorView& t) { tensor(FieldKind::output, name, t); }
  void inputs(const char* name, TensorList& l) { tensors(FieldKind::inputs, name, l); }
  void inouts(const char* name, TensorList& l) { tensors(FieldKind::inouts, name, l); }
  void optionalInouts(const char* name, TensorList& l) {
    tensors(FieldKind::optionalInouts, name, l);
  }
  void outputs(const char* name, TensorList& l) { tensors(FieldKind::outputs, name, l); }
  template <class E>
  void choice(const char* name, E& value, Names names) {
    int index = static_cast<int>(value);
    chosen(name, index, names);
    value = static_cast<E>(index);
  }
  template <class E>
  void choice(const char* name, E& value, std::initializer_list<const char*> names) {
    choice(name, value, Names(names.begin(), names.size()));
  }

  // `fields` offers the group's fields, which cost nothing in calls that leave the group out. Not
  // for outputs.
  template <class F>
  void group(const char* name, bool& given, F&& fields) {
    if (!beginGroup(name, given)) return;
    fields();
    endGroup(name);
  }

  virtual void number(const char*, double&) {}
  virtual void integer(const char*, int64_t&) {}
  virtual void flag(const char*, bool&) {}
  virtual void integers(const char*, std::vector<int64_t>&) {}

 protected:
  // Whether the group's fields are to be offered.
  virtual bool beginGroup(const char*, bool& given) { return given; }
  virtual void endGroup(const char*) {}
  virtual void tensor(FieldKind, const char*, TensorView&) {}
  virtual void tensors(FieldKind, const char*, TensorList&) {}
  virtual void chosen(const char*, int&, Names) {}
};

struct FieldDescription {
  FieldKind kind;
  std::string name;
  std::vector<std::string> choices;
};

}  // namespace longspan
