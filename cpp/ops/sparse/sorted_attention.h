// sortedAttention: exact attention over rows that are fetched through a permutation, sparse family.
// Tokens are sorted into groups (buckets of a hash, clusters of k-means), once per round; a query
// sees keys near it in that order. sortedAttentionBackward: its gradients.
//
// An entry of a round is a place in its order; the rank of an entry is its place within its group.
// Within a group positions ascend. Row i of the result is one softmax over every pair that any
// entry of position i sees, in all rounds together:
//
//   logit = scale q_i . k_j  (+ self, below)  (- log N_ij, N_ij the number of pairs (i, j) seen)
//   o_i   = sum exp(logit) v_j / sum exp(logit),   lse_i = log sum exp(logit)
//
// which is what combining the rounds by their log-sum-exp gives (Kitaev et al. 2020, equation 6). A
// row that sees no key, or whose position no order lists, gives 0 and -inf, and no gradient.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

// Which keys the entry of rank r in a group sees; with `causal` only those at positions up to its
// own, which needs no comparison of pairs: positions ascend, so that every pattern but `global`
// shows an interval of key ranks, whose ends do not fall from rank to rank.
enum class SortedPattern : int {
  chunk,   // key ranks from (r / chunk - back) chunk up to (r / chunk + 1 + forward) chunk
  window,  // the last `window` keys at positions up to its own; always causal
  group,   // the whole group
  global,  // chunks are cut over the orders of all rounds laid end to end, whatever the groups:
           // chunk c sees chunks c - back to c + forward, around the ends, each of them once. What
           // a query sees then depends on later tokens too (the trax and lucidrains codes do this)
};

// What becomes of the pair (i, i) where keys are the queries.
enum class SortedSelf : int {
  ordinary,
  hidden,
  lastResort,  // its logit becomes -selfPenalty
  penalised,   // selfPenalty is subtracted from its logit
};

enum class SortedDuplicates : int {
  counted,    // pairs seen in several rounds weigh as often
  corrected,  // log N_ij is subtracted
  sameRound,  // pattern `global`: log(N'_ij + 1e-9), N' without pairs of entries of two rounds, as
              // the lucidrains code has it
};

struct SortedAttentionProblem {
  TensorView q;  // [B, H, N, D], any strides; D and Dv from 1 to 256
  TensorView k;  // [B, Hk, M, D]; query head h reads key head h / (H / Hk)
  TensorView v;  // [B, Hk, M, Dv]
  // i32 [B, H, R, N'] and [B, H, R, M'], contiguous: positions in the order of (group, position), a
  // position at most once per round. Entries from the end of the last group on are padding, which
  // sees nothing and is seen by nobody.
  TensorView queryOrder, keyOrder;
  // i32 [B, H, R, G + 1], contiguous: where in its order each group begins, and the last ends.
  TensorView queryOffsets, keyOffsets;
  // Pattern `global` only: i32 [B], tokens at and beyond see nothing and are seen by nobody, though
  // they take their places in chunks.
  TensorView lengths;
  SortedPattern pattern = SortedPattern::chunk;
  int64_t chunk = 0, back = 0, forward = 0;  // patterns `chunk` and `global`
  int64_t window = 0;                        // pattern `window`
  bool causal = false;                       // key j is seen by query i only if j <= i
  bool sameGroup = false;  // pattern `global`: only keys of its own round and group
  SortedSelf self = SortedSelf::ordinary;
  double selfPenalty = 0;
  SortedDuplicates duplicates = SortedDuplicates::counted;
  double scale = 0;

  template <class V>
  void tensors(V& v_) {
    v_.input("q", q);
    v_.input("k", k);
    v_.input("v", v);
  }
  template <class V>
  void options(V& v_) {
    v_.input("queryOrder", queryOrder);
    v_.input("keyOrder", keyOrder);
    v_.input("queryOffsets", queryOffsets);
    v_.input("keyOffsets", keyOffsets);
    v_.optional("lengths", lengths);
    v_.choice("pattern", pattern, {"chunk", "window", "group", "global"});
    v_.integer("chunk", chunk);
    v_.integer("back", back);
    v_.integer("forward", forward);
    v_.integer("window", window);
    v_.flag("causal", causal);
    v_.flag("sameGroup", sameGroup);
    v_.choice("self", self, {"ordinary", "hidden", "lastResort", "penalised"});
    v_.number("selfPenalty", selfPenalty);
    v_.choice("duplicates", duplicates, {"counted", "corrected", "sameRound"});
    v_.number("scale", scale);
  }
  Status check() const;

  int64_t batch() const { return q.shape[0]; }
  int64_t queryHeads() const { return q.shape[1]; }
  int64_t keyHeads() const { return k.shape[1]; }
  int64_t queries() const { return q.shape[2]; }
  int64_t keys() const { return k.shape[2]; }
  int64_t dim() const { return q.shape[3]; }
  int64_t valueDim() const { return v.shape[3]; }
  int64_t rounds() const { return queryOrder.shape[2]; }
  int64_t queryEntries() const { return queryOrder.shape[3]; }
  int64_t keyEntries() const { return keyOrder.shape[3]; }
  int64_t groups() const { return queryOffsets.shape[3] - 1; }
  // Chunks of pattern `global`.
  int64_t chunks() const { return (rounds() * queryEntries() + chunk - 1) / chunk; }
  bool isGlobal() const { return pattern == SortedPattern::global; }
  // Whether logits are more than scaled products, or a pair may be hidden inside an interval.
  bool hasTerms() const { return isGlobal() || self != SortedSelf::ordinary || corrects(); }
  bool corrects() const { return duplicates != SortedDuplicates::counted && rounds() > 1; }
  // Log-sum-exp is f32, f64 for f64 inputs.
  DType statistics() const { return q.dtype == DType::f64 ? DType::f64 : DType::f32; }
};

struct SortedAttention : SortedAttentionProblem {
  static constexpr const char* name = "sortedAttention";
  bool withRoundLse = false;
  TensorView o;         // [B, H, N, Dv], dtype of q
  TensorView lse;       // [B, H, N]
  TensorView roundLse;  // [B, H, R, N], if asked for: over the pairs of one round's entries

  template <class V>
  void fields(V& v_) {
    tensors(v_);
    options(v_);
    v_.flag("withRoundLse", withRoundLse);
    v_.output("o", o);
    v_.output("lse", lse);
    v_.output("roundLse", roundLse);
  }
  Status validate();
  size_t workspace(int threads) const;
};

// The order is a constant. Gradients of a position are summed over its entries in a fixed order.
struct SortedAttentionBackward : SortedAttentionProblem {
  static constexpr const char* name = "sortedAttentionBackward";
  TensorView o, lse;          // what sortedAttention returned
  TensorView gradO, gradLse;  // absent: zero
  TensorView gradQ, gradK, gradV;

  template <class V>
  void fields(V& v_) {
    tensors(v_);
    v_.input("o", o);
    v_.input("lse", lse);
    v_.optional("gradO", gradO);
    v_.optional("gradLse", gradLse);
    options(v_);
    v_.output("gradQ", gradQ);
    v_.output("gradK", gradK);
    v_.output("gradV", gradV);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_BY_LEVEL(size_t, sortedAttentionWorkspace, const ops::SortedAttention&, int)
LONGSPAN_BY_LEVEL(size_t, sortedAttentionBackwardWorkspace, const ops::SortedAttentionBackward&,
                  int)
LONGSPAN_CPU_KERNEL(ops::SortedAttention, sortedAttention)
LONGSPAN_CPU_KERNEL(ops::SortedAttentionBackward, sortedAttentionBackward)
}  // namespace longspan::cpu
