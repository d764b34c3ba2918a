// Calls in 16 bits that the kernels for f32 compute, where those of 16 bits have no registers left:
// their operands are copied to f32 in the workspace first, their results rounded back from there.
// The copies that feed the kernels are asynchronous and cannot convert. Host code.
//
// Cost: a launch per operand and result, 6 bytes per element of each, and 4 of workspace. Results
// are more exact than those of kernels for 16 bits, whose weights are rounded. Predicted for an
// H200: 4 TB/s, so that the copies of a tensor of 256 MiB take 0.2 ms. Not yet run on hardware.
#pragma once

#include <array>

#include "cpp/ops/attention/problem.h"
#include "cuda/attention/problem.cuh"
#include "cuda/dense/move.cuh"

namespace longspan::cuda {

// Hands out a workspace piece by piece; without memory it only counts.
class Pieces {
 public:
  explicit Pieces(std::byte* memory = nullptr) : memory_(memory) {}
  template <class T>
  T* take(int64_t count) {
    constexpr size_t kAlignment = 256;
    T* const piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
  // f32 rows for [B, H, tokens, dim], on 16 bytes.
  TensorView rows(int64_t batch, int64_t heads, int64_t tokens, int64_t dim) {
    TensorView t = TensorView::ofShape(DType::f32, {batch, heads, tokens, (dim + 3) / 4 * 4});
    t.base = reinterpret_cast<std::byte*>(take<float>(t.numel()));
    t.shape[3] = dim;
    return t;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  size_t bytes_ = 0;
};

// Rows for an f32 copy of `t`, [B, H, tokens, dim].
inline TensorView widenedRows(const TensorView& t, Pieces& pieces) {
  return pieces.rows(t.shape[0], t.shape[1], t.shape[2], t.shape[3]);
}

// Copies `t` to those rows, which the operand becomes.
inline Status widen(const TensorView& t, const TensorView& rows, Operand& operand,
                    Context& context) {
  operand = operandOf(rows);
  return convertElements(t, rows, context);
}

// The same of queries, keys and values together.
using QueryKeyValue = std::array<TensorView, 3>;

inline QueryKeyValue widenedRows(const QueryKeyValue& from, Pieces& pieces) {
  QueryKeyValue rows;
  for (size_t i = 0; i < from.size(); ++i) rows[i] = widenedRows(from[i], pieces);
  return rows;
}

inline Status widen(const QueryKeyValue& from, const QueryKeyValue& rows, Problem& problem,
                    Context& context) {
  Operand* const to[] = {&problem.q, &problem.k, &problem.v};
  for (size_t i = 0; i < from.size(); ++i) {
    LONGSPAN_RETURN_IF_ERROR(widen(from[i], rows[i], *to[i], context));
  }
  return {};
}

// Exact attention at more than 128 dimensions has no registers left for a block mask in 16 bits.
inline bool widens(const ops::AttentionProblem& p) {
  return p.q.dtype != DType::f32 && p.maskRows.defined() && std::max(p.dim(), p.valueDim()) > 128;
}
inline QueryKeyValue operandsOf(const ops::AttentionProblem& p) {
  return {p.headMajor(p.q), p.headMajor(p.k), p.headMajor(p.v)};
}

// What such a call reads, in f32.
struct WidenedInputs {
  QueryKeyValue operands;
  TensorView narrowBias, bias;  // without axes that it is repeated along; undefined where it is f32

  WidenedInputs(const ops::AttentionProblem& p, Pieces& pieces)
      : operands(widenedRows(operandsOf(p), pieces)) {
    if (!p.bias.defined() || p.bias.dtype == DType::f32) return;
    narrowBias = p.bias;
    for (int i = 0; i < narrowBias.rank; ++i) {
      if (narrowBias.stride[i] == 0) narrowBias.shape[i] = 1;
    }
    bias = widenedRows(narrowBias, pieces);
  }
  // Copies them, and lets the problem know.
  Status fill(const ops::AttentionProblem& p, Problem& problem, Context& context) const {
    LONGSPAN_RETURN_IF_ERROR(widen(operandsOf(p), operands, problem, context));
    if (!narrowBias.defined()) return {};
    Operand rows;
    LONGSPAN_RETURN_IF_ERROR(widen(narrowBias, bias, rows, context));
    Terms& t = problem.terms;
    t.bias = rows.data, t.wideBias = true;
    int64_t* const steps[] = {&t.biasBatch, &t.biasHead, &t.biasQuery, &t.biasKey};
    for (int i = 0; i < 4; ++i) *steps[i] = bias.shape[i] == 1 ? 0 : bias.stride[i];
    return {};
  }
};

}  // namespace longspan::cuda
