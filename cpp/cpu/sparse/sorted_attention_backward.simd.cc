// Sorted attention, backward.
#include "cpp/cpu/sparse/sorted_double.h"
#include "cpp/cpu/sparse/sorted_entries.h"
#include "cpp/ops/sparse/sorted_attention.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

size_t sortedAttentionBackwardWorkspace(const ops::SortedAttentionBackward& p, int) {
  return static_cast<size_t>(p.batch() * p.queryHeads() * SortedPlaces::ints(p)) * sizeof(int32_t);
}

Status sortedAttentionBackward(const ops::SortedAttentionBackward& p, Context& context) {
  auto* places = reinterpret_cast<int32_t*>(context.workspace.data);
  LONGSPAN_RETURN_IF_ERROR(prepareOrders(p, places, context));
  if (p.q.dtype != DType::f64) return Status(Code::unsupported, "q", describe(p.q), "Use f64");
  sortedAttentionBackwardDouble(p, places, context);
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
