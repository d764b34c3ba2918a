// Bugs that can be planted into the attention kernels, one per barrier or asynchronous construct.
// A test builds each with -DLONGSPAN_PLANTED_ATTENTION=<number> and expects the emulator to object;
// in every other build all of this is compiled away.
#pragma once

#if !defined(LONGSPAN_PLANTED_ATTENTION)
#define LONGSPAN_PLANTED_ATTENTION 0
#endif

namespace longspan::cuda {

enum class Planted {
  none,
  forwardQueryWait,
  forwardQueryBarrier,
  forwardKeyWait,
  forwardKeyBarrier,
  forwardValueWait,
  forwardValueBarrier,
  forwardStaging,
  floatKeyWait,
  floatKeyBarrier,
  floatValueWait,
  floatValueBarrier,
  decodeQueryBarrier,
  decodeWarp,  // a warp refills the stage that its slower lanes still read
  decodeWait,
  decodeArrival,  // lanes read what others of the warp have copied
  decodeReuseBarrier,
  decodeStateBarrier,
  decodeFloatBarrier,
  backwardFirstWait,
  backwardFirstBarrier,
  backwardWait,
  backwardBarrier,
  backwardFreeBarrier,
  backwardStaging,
  backwardFloatWait,
  backwardFloatBarrier,
  backwardFloatWarp,
  backwardFloatFreeBarrier,
  sinksBarrier,
  biasWait,
  biasBarrier,
  biasReuseBarrier,
  biasTileBarrier,
  biasRowsBarrier,
  hopperInit,                // barriers of the rings are used before all threads know them
  hopperKeyFree,             // keys are overwritten while they are multiplied
  hopperValueFree,           // so are values
  hopperKeyParity,           // always the first phase
  hopperValueWait,           // values are multiplied before they have come
  hopperScoreWait,           // scores are read with their product in flight
  hopperOutWait,             // outputs are rescaled with theirs
  hopperValueEarly,          // values are given back before their product has been waited for
  hopperQueryWait,           // queries are multiplied, or written over, before they have come
  hopperLastWait,            // rows are zeroed before the copy has landed
  hopperLastFence,           // without the proxy fence
  hopperLastWarp,            // and handed on before all lanes have done their part
  hopperSkip,                // a stage is given back that other lanes still wait for
  hopperStaging,             // outputs over queries that are being read
  hopperTurn,                // no turn is passed on
  hopperBackwardInit,        // barriers are used before all threads know them
  hopperBackwardStaying,     // rows that stay are not waited for
  hopperBackwardParity,      // always the first phase of "full"
  hopperBackwardEmpty,       // a stage is filled again while it is multiplied
  hopperBackwardEarly,       // a stage is given back before its products are waited for
  hopperBackwardWait,        // gradients are used with products in flight
  hopperBackwardStatistics,  // a warp's arrival does not cover what its other lanes brought
  hopperBackwardWarp,        // nor what they read
  hopperBackwardClearFence,
  hopperBackwardClearBarrier,
  hopperBackwardStaging,  // gradients over rows that a slower warpgroup still multiplies
  count,
};

template <Planted kBug>
inline constexpr bool kPlanted = LONGSPAN_PLANTED_ATTENTION == static_cast<int>(kBug);

}  // namespace longspan::cuda
