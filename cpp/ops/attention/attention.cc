#include "cpp/ops/attention/attention.h"

namespace longspan::ops {

Status Attention::validate() {
  LONGSPAN_RETURN_IF_ERROR(check());
  o = fresh(q.dtype, queryHeads(), queries(), valueDim());
  if (withLse) lse = TensorView::ofShape(statistics(), {batch(), queryHeads(), queries()});
  return {};
}

size_t Attention::workspace(int threads) const {
  return cpu::attentionWorkspaceByLevel()(*this, threads);
}

LONGSPAN_OPERATOR(Attention, attention);

}  // namespace longspan::ops
