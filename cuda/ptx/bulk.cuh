// Bulk asynchronous copies (TMA, sm_90): tensor tiles and plain ranges, global to shared memory
// with completion on an mbarrier, shared to global memory in groups. One thread issues them.
// Coordinates are in elements, innermost first, and may lie outside: loads fill with zeros (and
// count the bytes), stores skip. Source: PTX ISA, "cp.async.bulk.tensor", "cp.reduce.async.bulk".
#pragma once

#include "cuda/ptx/base.cuh"
#include "cuda/tensor_map.h"

namespace longspan::cuda::ptx {

LONGSPAN_PTX void prefetchTensorMap(const TensorMap* map) {
#if defined(LONGSPAN_EMULATED)
  static_cast<void>(map);
#else
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#endif
}

// Fills the tile at `shared` (128-byte aligned; 1024 with 128-byte swizzle); its bytes count down
// what `barrier` expects.
LONGSPAN_PTX void bulkLoad(void* shared, const TensorMap* map, uint64_t* barrier, int c0, int c1) {
#if defined(LONGSPAN_EMULATED)
  const int at[] = {c0, c1};
  emulator::bulkLoad(shared, map, barrier, 2, at);
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3,%4}], [%2];" ::"r"(sharedAddress(shared)),
      "l"(map), "r"(sharedAddress(barrier)), "r"(c0), "r"(c1)
      : "memory");
#endif
}

LONGSPAN_PTX void bulkLoad(void* shared, const TensorMap* map, uint64_t* barrier, int c0, int c1,
                           int c2) {
#if defined(LONGSPAN_EMULATED)
  const int at[] = {c0, c1, c2};
  emulator::bulkLoad(shared, map, barrier, 3, at);
#else
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3,%4,%5}], [%2];" ::"r"(sharedAddress(shared)),
      "l"(map), "r"(sharedAddress(barrier)), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
#endif
}

LONGSPAN_PTX void bulkLoad(void* shared, const TensorMap* map, uint64_t* barrier, int c0, int c1,
                           int c2, int c3) {
#if defined(LONGSPAN_EMULATED)
  const int at[] = {c0, c1, c2, c3};
  emulator::bulkLoad(shared, map, barrier, 4, at);
#else
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3,%4,%5,%6}], [%2];" ::"r"(sharedAddress(shared)),
      "l"(map), "r"(sharedAddress(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
#endif
}

// Writes the tile at `shared`; part of this thread's open bulk group.
LONGSPAN_PTX void bulkStore(const TensorMap* map, const void* shared, int c0, int c1) {
#if defined(LONGSPAN_EMULATED)
  const int at[] = {c0, c1};
  emulator::bulkStore(shared, map, 2, at, false);
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group "
      "[%0, {%2,%3}], [%1];" ::"l"(map),
      "r"(sharedAddress(shared)), "r"(c0), "r"(c1)
      : "memory");
#endif
}

LONGSPAN_PTX void bulkStore(const TensorMap* map, const void* shared, int c0, int c1, int c2) {
#if defined(LONGSPAN_EMULATED)
  const int at[] = {c0, c1, c2};
  emulator::bulkStore(shared, map, 3, at, false);
#else
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group "
      "[%0, {%2,%3,%4}], [%1];" ::"l"(map),
      "r"(sharedAddress(shared)), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
#endif
}

LONGSPAN_PTX void bulkStore(const TensorMap* map, const void* shared, int c0, int c1, int c2,
                            int c3) {
#if defined(LONGSPAN_EMULATED)
  const int at[] = {c0, c1, c2, c3};
  emulator::bulkStore(shared, map, 4, at, false);
#else
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group "
      "[%0, {%2,%3,%4,%5}], [%1];" ::"l"(map),
      "r"(sharedAddress(shared)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
#endif
}

// Adds the tile to global memory, element by element, atomically.
LONGSPAN_PTX void bulkAdd(const TensorMap* map, const void* shared, int c0, int c1) {
#if defined(LONGSPAN_EMULATED)
  const int at[] = {c0, c1};
  emulator::bulkStore(shared, map, 2, at, true);
#else
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group "
      "[%0, {%2,%3}], [%1];" ::"l"(map),
      "r"(sharedAddress(shared)), "r"(c0), "r"(c1)
      : "memory");
#endif
}

LONGSPAN_PTX void bulkAdd(const TensorMap* map, const void* shared, int c0, int c1, int c2) {
#if defined(LONGSPAN_EMULATED)
  const int at[] = {c0, c1, c2};
  emulator::bulkStore(shared, map, 3, at, true);
#else
  asm volatile(
      "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.tile.bulk_group "
      "[%0, {%2,%3,%4}], [%1];" ::"l"(map),
      "r"(sharedAddress(shared)), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
#endif
}

LONGSPAN_PTX void bulkAdd(const TensorMap* map, const void* shared, int c0, int c1, int c2,
                          int c3) {
#if defined(LONGSPAN_EMULATED)
  const int at[] = {c0, c1, c2, c3};
  emulator::bulkStore(shared, map, 4, at, true);
#else
  asm volatile(
      "cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.tile.bulk_group "
      "[%0, {%2,%3,%4,%5}], [%1];" ::"l"(map),
      "r"(sharedAddress(shared)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
#endif
}

// A plain range: addresses and size are multiples of 16 bytes.
LONGSPAN_PTX void bulkLoadRange(void* shared, const void* global, uint32_t bytes,
                                uint64_t* barrier) {
#if defined(LONGSPAN_EMULATED)
  emulator::bulkLoadRange(shared, global, bytes, barrier);
#else
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(sharedAddress(shared)),
      "l"(global), "r"(bytes), "r"(sharedAddress(barrier))
      : "memory");
#endif
}

LONGSPAN_PTX void bulkStoreRange(void* global, const void* shared, uint32_t bytes) {
#if defined(LONGSPAN_EMULATED)
  emulator::bulkStoreRange(global, shared, bytes, false);
#else
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global),
               "r"(sharedAddress(shared)), "r"(bytes)
               : "memory");
#endif
}

// Adds f32 elements to global memory atomically.
LONGSPAN_PTX void bulkAddRange(float* global, const float* shared, uint32_t bytes) {
#if defined(LONGSPAN_EMULATED)
  emulator::bulkStoreRange(global, shared, bytes, true);
#else
  asm volatile(
      "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(global),
      "r"(sharedAddress(shared)), "r"(bytes)
      : "memory");
#endif
}

LONGSPAN_PTX void bulkCommit() {
#if defined(LONGSPAN_EMULATED)
  emulator::bulkCommit();
#else
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}

// Waits until all but the latest Pending groups of this thread have read their shared memory, which
// may then be overwritten.
template <int Pending>
LONGSPAN_PTX void bulkWaitRead() {
#if defined(LONGSPAN_EMULATED)
  emulator::bulkWait(Pending, true);
#else
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
#endif
}

// Waits until their writes to global memory are done as well.
template <int Pending>
LONGSPAN_PTX void bulkWait() {
#if defined(LONGSPAN_EMULATED)
  emulator::bulkWait(Pending, false);
#else
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

}  // namespace longspan::cuda::ptx
