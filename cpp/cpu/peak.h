// What this machine can do at most, measured: the ceilings that benchmarks are held against.
#pragma once

#include "cpp/cpu/level.h"

namespace longspan::cpu {

struct Peak {
  double flops;  // f32 FMA operations count two, per second
  double bytes;  // copied memory, per second: bytes read plus bytes written
};

// Keeps `threads` threads of the pool busy for about `seconds` per number, in the calling thread's
// time. The pool must be idle. `bytes` is 0 where memory for the copy cannot be had.
Peak measurePeak(int threads, double seconds);

// Runs `rounds` steps of independent FMA chains and returns their FLOPs.
LONGSPAN_BY_LEVEL(double, multiplyAddRounds, int64_t rounds, float* sink)

}  // namespace longspan::cpu
