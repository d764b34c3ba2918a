// What every exact-attention operator takes, and the shape rules they share.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

inline constexpr int64_t kMaxHeadDim = 256;

// Axes: q [B, Hq, N, D], k [B, Hkv, M, D], v [B, Hkv, M, Dv]; with tokenMajor the second and third
// axis change places, in outputs and gradients too. Query head h reads key head h / (Hq / Hkv).
struct AttentionProblem {
  TensorView q, k, v;
  TensorView keyLengths, queryLengths;  // i32[B]: rows at and beyond them do not exist
  // i32[B, pages of an entry], of decoding: k and v are [pages, Hkv, page size, D], and key j of
  // entry b is row j % page size of page pageTable[b, j / page size].
  TensorView pageTable;
  bool features = false;  // whether the call gives any of what follows, until `scale`
  // i32[S + 1], ascending from 0 to the number of tokens: a batch of one that holds S sequences end
  // to end, each of which sees only itself. Everything aligned is then aligned per sequence.
  TensorView cuSeqlensQ, cuSeqlensK;
  TensorView prefixLengths;               // i32[B], or [S]: keys before it are hidden by windowLeft
                                          // and padding only
  TensorView querySegments, keySegments;  // i32[B, N], [B, M]: a query sees keys of its own segment
  // A block-sparse mask for all of [N, M], per batch entry and head or one for all: of every row of
  // blocks the columns that it sees, ascending, each with the number of its bits, or -1 where the
  // whole block is seen; and the same by columns. Pairs in no listed block are hidden.
  TensorView maskRows, maskRowBlocks;        // i32[B or 1, Hq or 1, rows + 1], i32[E, 2]
  TensorView maskColumns, maskColumnBlocks;  // i32[B or 1, Hq or 1, columns + 1], i32[E, 2]
  TensorView maskBits;                       // u8[P, maskBlock, maskBlock / 8], see block_mask.h
  int64_t maskBlock = 0;                     // queries and keys of a block
  TensorView bias;                           // broadcast to [B, Hq, N, M], added after the softcap
  TensorView alibiSlopes;                    // [Hq] or [B, Hq]: slope |i + off - j| is subtracted
  TensorView sinks;                          // [Hq]: a logit in every row's sum that has no value
  TensorView dropoutState;  // of Philox, i32[4]; weight (b, h, i, j) falls when word
                            // ((b Hq + h) N + i) (M rounded up to 4) + j is below
  double dropout = 0;       // this probability; the others grow by 1 / (1 - dropout)
  double scale = 0;
  double softcap = 0;   // 0: none; else scores become softcap * tanh(scores / softcap)
  bool causal = false;  // key j is seen by query i when j <= i + off, off = keyLength - queryLength
  int64_t windowLeft = -1;  // keys from i + off - windowLeft on; -1: unbounded
  int64_t windowRight = -1;
  bool tokenMajor = false;

  // Offers the fields in the order of the declarations in lib/attention.
  template <class V>
  void tensors(V& v_) {
    v_.input("q", q);
    v_.input("k", k);
    v_.input("v", v);
  }
  template <class V>
  void options(V& v_) {
    v_.optional("keyLengths", keyLengths);
    v_.optional("queryLengths", queryLengths);
    v_.group("features", features, [&] {
      v_.optional("cuSeqlensQ", cuSeqlensQ);
      v_.optional("cuSeqlensK", cuSeqlensK);
      v_.optional("prefixLengths", prefixLengths);
      v_.optional("querySegments", querySegments);
      v_.optional("keySegments", keySegments);
      v_.optional("maskRows", maskRows);
      v_.optional("maskRowBlocks", maskRowBlocks);
      v_.optional("maskColumns", maskColumns);
      v_.optional("maskColumnBlocks", maskColumnBlocks);
      v_.optional("maskBits", maskBits);
      v_.integer("maskBlock", maskBlock);
      v_.optional("bias", bias);
      v_.optional("alibiSlopes", alibiSlopes);
      v_.optional("sinks", sinks);
      v_.optional("dropoutState", dropoutState);
      v_.number("dropout", dropout);
    });
    v_.number("scale", scale);
    v_.number("softcap", softcap);
    v_.flag("causal", causal);
    v_.integer("windowLeft", windowLeft);
    v_.integer("windowRight", windowRight);
    v_.flag("tokenMajor", tokenMajor);
  }

  // Gives `bias` the shape of the scores, with strides of 0.
  Status check();
  Status checkPages() const;
  Status checkSequences() const;
  Status checkMask() const;
  Status checkTerms();

  // A view with the axes [B, H, tokens, dim], whatever the layout.
  TensorView headMajor(const TensorView& t) const;
  // A fresh [B, heads, tokens, dim] tensor in this call's layout.
  TensorView fresh(DType dtype, int64_t heads, int64_t tokens, int64_t dim) const;

  int headAxis() const { return tokenMajor ? 2 : 1; }
  int tokenAxis() const { return tokenMajor ? 1 : 2; }
  int64_t batch() const { return q.shape[0]; }
  int64_t queryHeads() const { return q.shape[headAxis()]; }
  int64_t keyHeads() const { return k.shape[headAxis()]; }
  int64_t queries() const { return q.shape[tokenAxis()]; }
  bool paged() const { return pageTable.defined(); }
  int64_t keys() const { return k.shape[tokenAxis()] * (paged() ? pageTable.shape[1] : 1); }
  int64_t dim() const { return q.shape[3]; }
  bool packed() const { return cuSeqlensQ.defined(); }
  // Batch entries, or packed sequences.
  int64_t sequences() const { return packed() ? cuSeqlensQ.shape[0] - 1 : batch(); }
  // Whether scores or weights depend on more than the product and an interval of keys per query.
  bool hasTerms() const {
    return querySegments.defined() || bias.defined() || alibiSlopes.defined() || dropout > 0 ||
           maskRows.defined();
  }
  int64_t valueDim() const { return v.shape[3]; }
  // Log-sum-exp and row sums are f32, f64 for f64 inputs.
  DType statistics() const { return q.dtype == DType::f64 ? DType::f64 : DType::f32; }
};

// What a backward pass of attention is given beside its inputs: what forward gave, of the shapes
// and dtypes of `output` and `statistic`, and gradients of it, each of which may be absent.
struct AttentionResults {
  const TensorView &o, &lse, &gradO, &gradLse;
};
Status checkResults(const AttentionResults& r, const TensorView& output,
                    const TensorView& statistic);

}  // namespace longspan::ops
