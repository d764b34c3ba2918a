// What kernel code calls in the emulator, through device.h and cuda/ptx. Every function acts for
// the thread that is running.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/emulator/vector_types.h"

struct CUtensorMap;

namespace longspan::emulator {

// Constant within a thread, so the compiler may keep the answer.
[[gnu::const]] uint3 threadIndex();
[[gnu::const]] uint3 blockIndex();
[[gnu::const]] dim3 blockSize();
[[gnu::const]] dim3 gridSize();
[[gnu::const]] void* sharedMemory();
uint32_t sharedAddress(const void* pointer);
[[noreturn]] void trap();

// Barriers of the block: threads 0 means all that have not exited.
void barrierSync(int id, int threads);
void barrierArrive(int id, int threads);
int barrierReduce(int value, int operation);  // 0 or, 1 and, 2 count

// Warp-wide.
enum class Shuffle { index, exclusiveOr, up, down };
void syncWarp(uint32_t mask);
uint64_t shuffle(uint32_t mask, Shuffle mode, uint64_t value, int argument, int width);
uint32_t ballot(uint32_t mask, bool predicate);
uint32_t matchAny(uint32_t mask, uint32_t value);
uint32_t reduceLanes(uint32_t mask, uint32_t value, int operation);  // 0 sum, 1 max, 2 min
bool electOne(uint32_t mask);
void loadMatrix(uint32_t* r, int matrices, bool transposed, const void* row);
void storeMatrix(void* row, const uint32_t* r, int matrices, bool transposed);
void mma16(float* d, const uint32_t* a, const uint32_t* b, bool isBf16);
void mmaTf32(float* d, const uint32_t* a, const uint32_t* b);
uint32_t roundToTf32(float x);
void setRegisters();

// Order of global memory between blocks.
void fenceGlobal();
void noteAtomic(const void* address, size_t bytes, const void* pc);
uint32_t loadAcquire(const uint32_t* flag);
void storeRelease(uint32_t* flag, uint32_t value);
uint32_t addAcquireRelease(uint32_t* flag, uint32_t value);
void yield();

// Asynchronous copies.
void copyAsync(void* shared, const void* global, int bytes, int sourceBytes);
void copyCommit();
void copyWait(int pending);
void mbarrierInit(const void* barrier, uint32_t arrivals);
void mbarrierArrive(const void* barrier, uint32_t expectedBytes, bool arrive);
bool mbarrierTryWait(const void* barrier, uint32_t parity);
void mbarrierWait(const void* barrier, uint32_t parity);
void fenceMbarrierInit();
void fenceProxyAsync();
void bulkLoad(void* shared, const CUtensorMap* map, const void* barrier, int rank, const int* at);
void bulkLoadRange(void* shared, const void* global, uint32_t bytes, const void* barrier);
void bulkStore(const void* shared, const CUtensorMap* map, int rank, const int* at, bool add);
void bulkStoreRange(void* global, const void* shared, uint32_t bytes, bool addFloats);
void bulkCommit();
void bulkWait(int pending, bool readsOnly);

// Warpgroup matrix multiply; a null means A in shared memory (descriptorA).
void wgmmaFence();
void wgmmaCommit();
void wgmmaWait(int pending);
void wgmma(float* d, int n, const uint32_t* a, uint64_t descriptorA, uint64_t descriptorB,
           bool accumulate, bool transposedA, bool transposedB, bool isBf16);

}  // namespace longspan::emulator
