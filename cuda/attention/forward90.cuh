// Exact attention forward for 16-bit inputs on sm_90a.
//
// Algorithm (Shah et al. 2024, FlashAttention-3): a block takes 64 queries of one head per consumer
// warpgroup. One warp of another warpgroup, which gives up its registers, brings tiles of keys and
// of values by bulk copies into two rings. Both products are wgmma: queries and keys from shared
// memory, weights from the registers in which scores became them. While a warpgroup turns the
// scores of a tile into weights, the tensor cores sum the values of the tile before (they have been
// given both products at once), and work for the other warpgroups: these take turns in giving
// products (up to 128 dimensions), so that one computes exponentials while another multiplies.
//
// Tiles: 192 queries by 128 keys for 64 dimensions, 128 by 128 for 128, 128 by 64 for 256. Calls
// whose scores need more than a factor have 128 by 64 (32 for 256), a loop without overlap inside
// of a warpgroup, and one kernel for both types.
//
// Order: blocks are handed out by index, to whichever multiprocessor is free, so that any lengths
// are balanced as they are found, without a counter in memory. Within sections of heads whose keys
// and values fit into L2 the tiles with most keys go first: with a causal mask the last block to
// start is then a short one (Graham 1969: at most 4/3 of the optimum). The result does not depend
// on the order.
//
// Bulk copies fill with zeros what lies beyond a tensor, but not what lies beyond a sequence inside
// of it, where NaN times a weight of 0 would be NaN: rows of values from the last key on are
// zeroed by the producer, which delays only the last tile. Keys there are masked.
//
// Cost: 2 (D + Dv) FLOPs and one exponential per pair of a tile that is not hidden. Bytes: q and o
// once; k and v once per block from L2: 64 KB per 8.4 MFLOP for 128 and 256 dimensions, 32 KB per
// 6.3 MFLOP for 64.
//
// Prediction for an H200 (132 multiprocessors; 4096 FLOP of wgmma, 16 exponentials and 128 FMAs per
// clock in each; matmul by cuBLAS reaches 790 TFLOP/s): a tile of 128 by 128 pairs takes 1024
// clocks of exponentials and about 500 of other work on scores, beside 2048 of products for 128
// dimensions, 1024 for 64 and 4096 for 256. Where the two overlap completely, products alone count
// (128, 256), or exponentials and products alike (64). What is left open: the first tile of a
// block, rescaling and packing between the products of a warpgroup, a start of about 2000 clocks
// per block, since only one fits, and L2, which must give 4.6 TB/s at 600 TFLOP/s. bf16, 8192
// tokens, no mask: 400 (D 64), 600 (D 128), 560 (D 256) TFLOP/s; causal 0.88 of it, 2048 tokens
// causal 0.7. With terms 250, with dropout 130: their instructions are issued while the warpgroup
// multiplies nothing. Measured there (bench/results/nvidia-h200.json): 431 TFLOP/s (D 64), 576 (D
// 128), causal 420 and 561; 0.9 to 1.1 of cuDNN.
#pragma once

#include "cuda/attention/forward.cuh"
#include "cuda/attention/hopper.cuh"
#include "cuda/attention/pairs.cuh"

namespace longspan::cuda {

struct Forward90Arguments {
  TensorMap q, k, v;
  ForwardArguments forward;
  uint32_t heads = 1;    // of all batch entries
  uint32_t section = 1;  // heads that are walked together
};

template <int kDim_, bool kTerms_>
struct Forward90Tile {
  static constexpr int kDim = kDim_;
  static constexpr bool kTerms = kTerms_;
  static constexpr int kGroups = kDim == 64 && !kTerms ? 3 : 2;  // consumer warpgroups
  static constexpr int kRows = 64 * kGroups, kThreads = 128 * (1 + kGroups);
  static constexpr int kKeys = kDim == 256 ? (kTerms ? 32 : 64) : kTerms ? 64 : 128;
  static constexpr int kStages = 2;  // PairPlace
  static constexpr bool kTurns = !kTerms && kDim <= 128;
  // 65536 in all.
  static constexpr int kProducerRegisters = kGroups == 3 ? 32 : kTerms ? 56 : 40;
  static constexpr int kConsumerRegisters = kGroups == 3 ? 160 : kTerms ? 224 : 232;
  static constexpr int kGroupBytes = 64 * kDim * 2, kStageBytes = kKeys * kDim * 2;
  static constexpr int kBarriers = 2 + 4 * kStages;
  static constexpr int kSharedBytes = kGroups * kGroupBytes + 2 * kStages * kStageBytes +
                                      kBarriers * 8 + kStages * 4 +
                                      static_cast<int>(sizeof(TilePlace));
};

// Shared memory of a block. "full" counts bytes of copies, "free" warps that are done with a stage.
template <class Tile>
struct ForwardRings {
  static constexpr int kStages = Tile::kStages;
  uint8_t* const data;
  uint64_t *const queriesFull,
      *const lastValues, *const keysFull, *const keysFree, *const valuesFull, *const valuesFree;
  int32_t* const firstKey;  // [kStages] of a tile, or kEnd; with terms only
  TilePlace* const place;   // looked up where registers are short
  static constexpr int kEnd = -1;

  __device__ __forceinline__ explicit ForwardRings(uint8_t* shared)
      : data(shared),
        queriesFull(reinterpret_cast<uint64_t*>(shared + Tile::kGroups * Tile::kGroupBytes +
                                                2 * kStages * Tile::kStageBytes)),
        lastValues(queriesFull + 1),
        keysFull(lastValues + 1),
        keysFree(keysFull + kStages),
        valuesFull(keysFree + kStages),
        valuesFree(valuesFull + kStages),
        firstKey(reinterpret_cast<int32_t*>(valuesFree + kStages)),
        place(reinterpret_cast<TilePlace*>(firstKey + kStages)) {}
  template <class T>
  __device__ __forceinline__ T* queries(int group) const {
    return reinterpret_cast<T*>(data + group * Tile::kGroupBytes);
  }
  template <class T>
  __device__ __forceinline__ T* keys(int stage) const {
    return reinterpret_cast<T*>(data + Tile::kGroups * Tile::kGroupBytes +
                                stage * Tile::kStageBytes);
  }
  template <class T>
  __device__ __forceinline__ T* values(int stage) const {
    return keys<T>(kStages + stage);
  }
  __device__ __forceinline__ void initialise() const {
    ptx::mbarrierInit(queriesFull, 1);
    ptx::mbarrierInit(lastValues, 1);
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrierInit(keysFull + i, 1);
      ptx::mbarrierInit(valuesFull + i, 1);
      ptx::mbarrierInit(keysFree + i, 4 * Tile::kGroups);
      ptx::mbarrierInit(valuesFree + i, 4 * Tile::kGroups);
    }
    ptx::fenceMbarrierInit();
  }
};

// What the producing warp does. It runs ahead by a tile of keys: scores of the next tile are asked
// for together with the sums of this one.
template <class Tile, class Mask>
class ForwardProducer {
 public:
  __device__ __forceinline__ ForwardProducer(const Forward90Arguments& a,
                                             const ForwardRings<Tile>& rings,
                                             const TilePlace& place)
      : a_(a),
        rings_(rings),
        entry_(a.forward.problem.entryOf(place.sequence)),
        head_(place.h / a.forward.problem.group()),
        first_(a.forward.problem.keyBegin(place.sequence)),
        valid_(place.sequence.band.keys),
        leads_(threadIdx.x % 32 == 0) {}

  __device__ __forceinline__ void run(const TilePlace& place) {
    const Problem& p = a_.forward.problem;
    const Mask mask = place.sequence.band;
    const Range keys = p.keysOf(place.sequence, mask, place.row, Tile::kRows);
    const auto visible = [&](int tile) {
      if constexpr (Tile::kTerms && Tile::kDim <= 128) {
        return p.visible<Tile::kKeys>(entry_, place.h, {place.row, place.row + Tile::kRows}, tile,
                                      keys.end);
      }
      return tile;
    };
    int tile = visible(keys.begin / Tile::kKeys * Tile::kKeys);
    if (tile < keys.end) {
      loadQueries(place);
      loadKeys(tile);
      for (int next = visible(tile + Tile::kKeys); next < keys.end;
           next = visible(tile + Tile::kKeys)) {
        loadKeys(next);
        loadValues(tile);
        tile = next;
      }
      loadValues(tile);
    }
    if constexpr (Tile::kTerms) {
      if (leads_) {
        ptx::mbarrierWait(rings_.keysFree + keys_.index(), keys_.parity() ^ 1);
        rings_.firstKey[keys_.index()] = ForwardRings<Tile>::kEnd;
        ptx::mbarrierArrive(rings_.keysFull + keys_.index());
      }
    }
  }

 private:
  __device__ __forceinline__ void loadQueries(const TilePlace& place) const {
    if (!leads_) return;
    ptx::mbarrierArriveExpect(rings_.queriesFull, Tile::kGroups * Tile::kGroupBytes);
    const int row = a_.forward.problem.queryBegin(place.sequence) + place.row;
#pragma unroll
    for (int group = 0; group < Tile::kGroups; ++group) {
      bulkLoadTile<Tile::kDim, 64>(rings_.template queries<f16>(group), a_.q, rings_.queriesFull,
                                   row + 64 * group, place.h, entry_);
    }
  }

  __device__ __forceinline__ void loadKeys(int tile) {
    if (leads_) {
      const int stage = keys_.index();
      uint64_t* const full = rings_.keysFull + stage;
      if (!kPlanted<Planted::hopperKeyFree>) {
        ptx::mbarrierWait(rings_.keysFree + stage, keys_.parity() ^ 1);
      }
      if constexpr (Tile::kTerms) rings_.firstKey[stage] = tile;
      ptx::mbarrierArriveExpect(full, Tile::kStageBytes);
      bulkLoadTile<Tile::kDim, Tile::kKeys>(rings_.template keys<f16>(stage), a_.k, full,
                                            first_ + tile, head_, entry_);
    }
    keys_.advance();
  }

  __device__ __forceinline__ void loadValues(int tile) {
    const int stage = values_.index();
    f16* const target = rings_.template values<f16>(stage);
    uint64_t* const full = rings_.valuesFull + stage;
    // Beyond the tensor zeros come by themselves.
    const bool last = tile + Tile::kKeys > valid_ && first_ + valid_ != a_.forward.problem.keys;
    if (leads_) {
      if (!kPlanted<Planted::hopperValueFree>) {
        ptx::mbarrierWait(rings_.valuesFree + stage, values_.parity() ^ 1);
      }
      uint64_t* const barrier = last ? rings_.lastValues : full;
      ptx::mbarrierArriveExpect(barrier, Tile::kStageBytes);
      bulkLoadTile<Tile::kDim, Tile::kKeys>(target, a_.v, barrier, first_ + tile, head_, entry_);
    }
    if (last) {
      if (!kPlanted<Planted::hopperLastWait>) ptx::mbarrierWait(rings_.lastValues, 0);
      clearRows<Tile::kDim, Tile::kKeys, 32>(target, valid_ - tile, threadIdx.x % 32);
      if (!kPlanted<Planted::hopperLastFence>) ptx::fenceProxyAsync();
      if (!kPlanted<Planted::hopperLastWarp>) __syncwarp();
      if (leads_) ptx::mbarrierArrive(full);
    }
    values_.advance();
  }

  const Forward90Arguments& a_;
  const ForwardRings<Tile>& rings_;
  const int entry_, head_, first_, valid_;
  const bool leads_;
  PairPlace keys_, values_;
};

// What a consumer warpgroup does.
template <class T, class Tile, class Mask>
class ForwardConsumer {
  static constexpr int kDim = Tile::kDim, kKeys = Tile::kKeys;
  using Scores = Products<1, kKeys>;

 public:
  __device__ __forceinline__ ForwardConsumer(const Forward90Arguments& a,
                                             const ForwardRings<Tile>& rings, int group)
      : a_(a),
        rings_(rings),
        mask_(rings.place->sequence.band),
        group_(group),
        row_(rings.place->row + 64 * group) {}

  __device__ __forceinline__ void run() {
    softmax_.clear();
    if constexpr (Tile::kTerms) {
      walkTold();
    } else {
      walk();
    }
    // Staged over the warpgroup's queries, which it no longer reads.
    if (!kPlanted<Planted::hopperStaging>) ptx::barrierSync(kFirstStaging + group_, 128);
    const TilePlace place = *rings_.place;
    finishRows<true>(a_.forward, place.sequence, place.h,
                     a_.forward.problem.entryOf(place.sequence), softmax_, warpRow(),
                     rings_.template queries<T>(group_) + threadIdx.x / 32 % 4 * 16 * kDim);
  }

 private:
  static constexpr int kFirstTurn = 1, kFirstStaging = kFirstTurn + Tile::kGroups;

  __device__ __forceinline__ int warpRow() const { return row_ + threadIdx.x / 32 % 4 * 16; }
  __device__ __forceinline__ static bool releases() { return threadIdx.x % 32 == 0; }
  __device__ __forceinline__ Range blockKeys() const {
    const TilePlace place = *rings_.place;
    return a_.forward.problem.keysOf(place.sequence, mask_, place.row, Tile::kRows);
  }

  // Plain scores: those of the next tile are computed while the values of this one are summed.
  __device__ __forceinline__ void walk() {
    const float factor = a_.forward.problem.score.factor;
    const Range own = mask_.keysOf(row_, row_ + 64);
    Scores s;
    Weights<1, kKeys> weights;
    float shrink[1][2];
    if (Tile::kTurns && group_ == Tile::kGroups - 1) passTurn();
    const Range keys = blockKeys();
    // Also without keys of its own: outputs are staged where queries arrive.
    if (!kPlanted<Planted::hopperQueryWait> && !keys.empty()) {
      ptx::mbarrierWait(rings_.queriesFull, 0);
    }
    int tile = keys.begin / kKeys * kKeys;
    for (; tile < own.begin / kKeys * kKeys; tile += kKeys) skip();
    if (tile < own.end) {
      takeTurn();
      issueScores(s);
      passTurn();
      ptx::wgmmaWait<0>(flat(s));
      releaseKeys();
      hide(s, tile);
      softmax_.raise(s, factor, shrink);  // nothing to rescale yet
      softmax_.exponentiate(s, factor);
      weights.template set<T>(s);
      for (tile += kKeys; tile < own.end; tile += kKeys) {
        takeTurn();
        issueScores(s);
        issueValues(weights);
        passTurn();
        ptx::wgmmaWait<kPlanted<Planted::hopperScoreWait> ? 2 : 1>(flat(s));
        releaseKeys();
        hide(s, tile);
        const bool any = softmax_.raise(s, factor, shrink);
        softmax_.exponentiate(s, factor);
        if (kPlanted<Planted::hopperValueEarly>) releaseValues();
        ptx::wgmmaWait<kPlanted<Planted::hopperOutWait> ? 1 : 0>(flat(softmax_.o));
        if (!kPlanted<Planted::hopperValueEarly>) releaseValues();
        if (any) softmax_.rescale(shrink);
        weights.template set<T>(s);
      }
      issueValues(weights);
      ptx::wgmmaWait<0>(flat(softmax_.o));
      releaseValues();
    }
    for (const int end = blockKeys().end; tile < end; tile += kKeys) skip();
  }

  // Scores with terms, tile by tile as the producer tells.
  __device__ __forceinline__ void walkTold() {
    const Problem& p = a_.forward.problem;
    const Range own = mask_.keysOf(row_, row_ + 64);
    const TilePlace place = *rings_.place;
    Scores s;
    Weights<1, kKeys> weights;
    float shrink[1][2];
    for (bool first = true;; first = false) {
      ptx::mbarrierWait(rings_.keysFull + keys_.index(), keys_.parity());
      // Read by the lane that gives the stage back.
      const int tile = __shfl_sync(0xffffffffu, releases() ? rings_.firstKey[keys_.index()] : 0, 0);
      if (tile == ForwardRings<Tile>::kEnd) break;
      if (first) ptx::mbarrierWait(rings_.queriesFull, 0);
      if (tile + kKeys <= own.begin || tile >= own.end) {
        skip();
        continue;
      }
      issueScores(s);
      ptx::wgmmaWait<0>(flat(s));
      releaseKeys();
      softmax_.prepare(p.score, s, [&](auto&& forEach) {
        addTerms<T, kDim <= 128>(p, place.sequence, place.h, [&](auto&& f) {
          forEach([&](float& score, int r, int c) { f(score, warpRow() + r, tile + c); });
        });
      });
      hide(s, tile);
      if (softmax_.raise(s, p.score.factor, shrink)) softmax_.rescale(shrink);
      softmax_.exponentiate(s, p.score.factor);
      weights.template set<T>(s);
      if (p.terms.drops()) {
        weights.drop([&](int, int n) {
          return droppedPairs<false>(p, place.sequence, place.h, warpRow(), tile + 8 * n);
        });
      }
      issueValues(weights);
      ptx::wgmmaWait<0>(flat(softmax_.o));
      releaseValues();
    }
  }

  __device__ __forceinline__ void issueScores(Scores& s) const {
    ptx::mbarrierWait(rings_.keysFull + keys_.index(),
                      kPlanted<Planted::hopperKeyParity> ? 0 : keys_.parity());
    issueByRows<kDim, 64>(s, rings_.template queries<T>(group_),
                          rings_.template keys<T>(keys_.index()));
  }
  __device__ __forceinline__ void issueValues(const Weights<1, kKeys>& weights) {
    if (!kPlanted<Planted::hopperValueWait>) {
      ptx::mbarrierWait(rings_.valuesFull + values_.index(), values_.parity());
    }
    issueByColumns<kDim>(softmax_.o, weights, rings_.template values<T>(values_.index()));
  }
  __device__ __forceinline__ void releaseKeys() {
    if (releases()) ptx::mbarrierArrive(rings_.keysFree + keys_.index());
    keys_.advance();
  }
  __device__ __forceinline__ void releaseValues() {
    if (releases()) ptx::mbarrierArrive(rings_.valuesFree + values_.index());
    values_.advance();
  }
  // A tile that other warpgroups see.
  __device__ __forceinline__ void skip() {
    takeTurn();
    passTurn();
    ptx::mbarrierWait(rings_.keysFull + keys_.index(), keys_.parity());
    ptx::mbarrierWait(rings_.valuesFull + values_.index(), values_.parity());
    // A lane that comes later would wait for a phase that is over.
    if (!kPlanted<Planted::hopperSkip>) __syncwarp();
    releaseKeys();
    releaseValues();
  }

  __device__ __forceinline__ void hide(Scores& s, int tile) {
    const int row = warpRow();
    if (mask_.whole(row, row + 16, {tile, tile + kKeys})) return;
    softmax_.mask(s, [&](int r) { return mask_.from(tile).keysOf(row + r, row + r + 1); });
  }

  // Turns go around, one per tile: every warpgroup takes part in each.
  __device__ __forceinline__ void takeTurn() const {
    if constexpr (Tile::kTurns) ptx::barrierSync(kFirstTurn + group_, 256);
  }
  __device__ __forceinline__ void passTurn() const {
    if constexpr (Tile::kTurns && !kPlanted<Planted::hopperTurn>) {
      ptx::barrierArrive(kFirstTurn + (group_ + 1 == Tile::kGroups ? 0 : group_ + 1), 256);
    }
  }

  const Forward90Arguments& a_;
  const ForwardRings<Tile>& rings_;
  const Mask mask_;
  const int group_, row_;
  WarpSoftmax<T, kDim, 1> softmax_;
  PairPlace keys_, values_;
};

// consume(rings, group): what a consumer warpgroup does.
template <class Tile, class Mask, class Consume>
__device__ __forceinline__ void forward90(const Forward90Arguments& a, Consume&& consume) {
  LONGSPAN_SHARED(shared);
  const Problem& p = a.forward.problem;
  const auto count = static_cast<uint32_t>(p.tiles(p.queries, Tile::kRows));
  const uint32_t firstHead = blockIdx.x / (a.section * count) * a.section;
  const uint32_t inside = blockIdx.x - firstHead * count,
                 width = min(a.section, a.heads - firstHead);
  const TilePlace place = p.tile<false, Tile::kRows>(inside / width, firstHead + inside % width);
  if (place.surplus) return;
  const ForwardRings<Tile> rings(shared);
  if (threadIdx.x == 0) {
    ptx::prefetchTensorMap(&a.q);
    ptx::prefetchTensorMap(&a.k);
    ptx::prefetchTensorMap(&a.v);
    rings.initialise();
    *rings.place = place;
  }
  if (!kPlanted<Planted::hopperInit>) __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == 0) {
    ptx::registersDecrease<Tile::kProducerRegisters>();
    if (threadIdx.x < 32) ForwardProducer<Tile, Mask>(a, rings, place).run(place);
  } else {
    ptx::registersIncrease<Tile::kConsumerRegisters>();
    consume(rings, warpgroup - 1);
  }
}

template <class T, class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    attentionForward90(const __grid_constant__ Forward90Arguments a) {
#if LONGSPAN_SM90A
  forward90<Tile, Mask>(a, [&](const auto& rings, int group) {
    ForwardConsumer<T, Tile, Mask>(a, rings, group).run();
  });
#endif
}

// Calls with terms are rare: both types share a kernel.
template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    attentionForward90Terms(const __grid_constant__ Forward90Arguments a, bool isBf16) {
#if LONGSPAN_SM90A
  forward90<Tile, Mask>(a, [&](const auto& rings, int group) {
    if (isBf16) {
      ForwardConsumer<bf16, Tile, Mask>(a, rings, group).run();
    } else {
      ForwardConsumer<f16, Tile, Mask>(a, rings, group).run();
    }
  });
#endif
}

}  // namespace longspan::cuda
