// What terms.cuh says of pairs of queries and keys, for the pairs that a thread owns.
//
// Masks of dropout are made by the lanes that need them: four neighbouring keys share a block of
// four Philox words, every lane computes one block per four pairs that it owns, and lanes that
// share blocks exchange bits.
//
// Cost per pair: an L2 read of bias, 2 instructions of ALiBi, a comparison of ids, a bit of a block
// mask and a binary search per block that it meets, a quarter of a Philox block (20 instructions).
#pragma once

#include "cpp/core/philox.h"
#include "cuda/attention/problem.cuh"

namespace longspan::cuda {

// Adds to scores in base 2. forEach(f) calls f(score, i, j) for the pairs that this thread owns; T
// is the operands' type. Pairs beyond the sequence may be among them. Without kMasks, for a kernel
// that has no registers left, calls with block masks must not come here.
template <class T, bool kMasks = true, class ForEach>
__device__ __forceinline__ void addTerms(const Problem& p, const Sequence& s, int h,
                                         ForEach&& forEach) {
  const Terms& t = p.terms;
  const int b = p.entryOf(s);
  if (t.bias != nullptr) {
    const int64_t head = b * t.biasBatch + h * t.biasHead;
    const auto with = [&](const auto* data) {
      data += head;
      forEach([&](float& score, int i, int j) {
        const int64_t at = min(i, p.queries - 1) * t.biasQuery + min(j, p.keys - 1) * t.biasKey;
        score = fmaf(toFloat(data[at]), kLog2E, score);
      });
    };
    if (t.wideBias) {
      with(static_cast<const float*>(t.bias));
    } else {
      with(static_cast<const T*>(t.bias));
    }
  }
  if (t.slopes != nullptr) {
    const float slope = -kLog2E * t.slopes[b * t.slopeBatch + h * t.slopeHead];
    const int offset = s.band.offset();
    forEach([&](float& score, int i, int j) {
      score = fmaf(slope, static_cast<float>(abs(i + offset - j)), score);
    });
  }
  if (t.querySegments.data != nullptr) {
    const int query = p.queryBegin(s), key = p.keyBegin(s);
    forEach([&](float& score, int i, int j) {
      if (t.querySegments.at(b, query + i) != t.keySegments.at(b, key + j)) score = -INFINITY;
    });
  }
  if (kMasks && t.mask.rows != nullptr) {
    // Looked up pair by pair: what is known of the pair before would cost registers.
    forEach([&](float& score, int i, int j) {
      i = min(i, p.queries - 1), j = min(j, p.keys - 1);
      if (!t.mask.shows(t.mask.find(b, h, i, j), i, j)) score = -INFINITY;
    });
  }
}

// Of the keys 4 block .. 4 block + 3, which does query i of the sequence lose? One bit each.
__device__ __forceinline__ uint32_t dropped(const Problem& p, const Sequence& s, int h, int i,
                                            int block) {
  const int64_t row = (int64_t{p.entryOf(s)} * p.queryHeads + h) * p.queries + p.queryBegin(s) + i;
  const int64_t blocks = (p.keys + 3) / 4;
  const PhiloxBlock words =
      philox(loadPhilox(p.terms.dropoutState), static_cast<uint64_t>(row * blocks + block));
  uint32_t bits = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k) bits |= (words.word[k] >> 8 < p.terms.threshold ? 1u : 0u) << k;
  return bits;
}

// Which of a lane's four elements of an mma accumulator are dropped: bit 2 h + i is that of row
// lane / 4 + 8 h, column 2 (lane % 4) + i. Rows from `row`, a multiple of 16, are queries, or keys
// where kKeySide, columns from `column`, a multiple of 8, the others.
template <bool kKeySide>
__device__ __forceinline__ uint32_t droppedPairs(const Problem& p, const Sequence& s, int h,
                                                 int row, int column) {
  const int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  if constexpr (kKeySide) {
    const int mine = g % 4;  // lanes that differ in g % 4 need the same blocks
    uint32_t all = dropped(p, s, h, column + 2 * c + mine % 2, (row + g + 8 * (mine / 2)) / 4)
                   << 4 * mine;
    all |= __shfl_xor_sync(0xffffffffu, all, 4);
    all |= __shfl_xor_sync(0xffffffffu, all, 8);
    all >>= mine;
    return (all & 1) | (all >> 3 & 2) | (all >> 6 & 4) | (all >> 9 & 8);
  } else {
    const int mine = c % 2;  // so do lanes that differ in c % 2
    uint32_t all = dropped(p, s, h, row + g + 8 * mine, column / 4 + c / 2) << 4 * mine;
    all |= __shfl_xor_sync(0xffffffffu, all, 1);
    all >>= 2 * mine;
    return (all & 3) | (all >> 2 & 12);
  }
}

// The same for the four rows from `row` on and one column of a thread of tile32.cuh.
template <bool kKeySide>
__device__ __forceinline__ uint32_t droppedPairs32(const Problem& p, const Sequence& s, int h,
                                                   int row, int column) {
  if constexpr (kKeySide) return dropped(p, s, h, column, row / 4);
  const int mine = threadIdx.x % 4;
  uint32_t all = dropped(p, s, h, row + mine, column / 4) << 4 * mine;
  all |= __shfl_xor_sync(0xffffffffu, all, 1);
  all |= __shfl_xor_sync(0xffffffffu, all, 2);
  all >>= mine;
  return (all & 1) | (all >> 3 & 2) | (all >> 6 & 4) | (all >> 9 & 8);
}

}  // namespace longspan::cuda
