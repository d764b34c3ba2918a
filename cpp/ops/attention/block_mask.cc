#include "cpp/ops/attention/block_mask.h"

#include <algorithm>
#include <iterator>

#include "cpp/ops/check.h"

namespace longspan::ops {

Status BlockMaskEvaluate::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::dtype("program", program, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank("program", program, 2));
  LONGSPAN_RETURN_IF_ERROR(check::shape("program", program, {program.shape[0], 2}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("program", program));
  constexpr double kMost = 1 << 29;
  LONGSPAN_RETURN_IF_ERROR(check::inRange("queries", static_cast<double>(queries), 1, kMost));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("keys", static_cast<double>(keys), 1, kMost));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("batch", static_cast<double>(batch), 1, kMost));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("heads", static_cast<double>(heads), 1, kMost));
  if (std::find(std::begin(kMaskBlocks), std::end(kMaskBlocks), block) == std::end(kMaskBlocks)) {
    return Status(Code::value, "block", std::to_string(block), "Use blocks of 16, 32, 64 or 128");
  }
  if (blocks.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::dtype("blocks", blocks, DType::i32));
    LONGSPAN_RETURN_IF_ERROR(check::rank("blocks", blocks, 2));
    LONGSPAN_RETURN_IF_ERROR(check::shape("blocks", blocks, {blocks.shape[0], 4}));
    LONGSPAN_RETURN_IF_ERROR(check::contiguous("blocks", blocks));
    bits = TensorView::ofShape(DType::u8, {blocks.shape[0], block, block / 8});
    return {};
  }
  LONGSPAN_RETURN_IF_ERROR(check::extents("queries", {batch, heads, rows(), columns()}));
  states = TensorView::ofShape(DType::u8, {batch, heads, rows(), columns()});
  return {};
}

LONGSPAN_OPERATOR(BlockMaskEvaluate, blockMaskEvaluate);

}  // namespace longspan::ops
