// Single instructions, one wrapper each: inline PTX for the device, a call into the emulator
// otherwise. No other file holds inline assembly. The operand layouts are those of the PTX ISA;
// each wrapper has a case in cuda/emulator/tests.
#pragma once

#include "cuda/ptx/barrier.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/copy.cuh"
#include "cuda/ptx/math.cuh"
#include "cuda/ptx/matrix.cuh"
#include "cuda/ptx/order.cuh"
#include "cuda/ptx/wgmma.cuh"
