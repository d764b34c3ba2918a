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
  count,
};

template <Planted kBug>
inline constexpr bool kPlanted = LONGSPAN_PLANTED_ATTENTION == static_cast<int>(kBug);

}  // namespace longspan::cuda
