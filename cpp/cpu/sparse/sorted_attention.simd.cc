// Sorted attention, forward.
#include "cpp/ops/sparse/sorted_attention.h"

#include "cpp/cpu/sparse/sorted_double.h"
#include "cpp/cpu/sparse/sorted_entries.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

size_t sortedAttentionWorkspace(const ops::SortedAttention& p, int) {
  return static_cast<size_t>(p.batch() * p.queryHeads() * SortedPlaces::ints(p)) * sizeof(int32_t);
}

Status sortedAttention(const ops::SortedAttention& p, Context& context) {
  auto* places = reinterpret_cast<int32_t*>(context.workspace.data);
  LONGSPAN_RETURN_IF_ERROR(prepareOrders(p, places, context));
  if (p.q.dtype != DType::f64) return Status(Code::unsupported, "q", describe(p.q), "Use f64");
  sortedAttentionDouble(p, places, context);
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
