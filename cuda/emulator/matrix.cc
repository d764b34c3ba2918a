// ldmatrix, stmatrix and mma.sync. Fragment layouts: see cuda/ptx/matrix.cuh. Products are summed
// in f32 in the order of k; hardware keeps other intermediate precisions.
#include <algorithm>
#include <bit>
#include <cstring>

#include "cuda/emulator/access.h"
#include "cuda/emulator/collective.h"
#include "cuda/emulator/halves.h"
#include "cuda/emulator/instructions.h"

namespace longspan::emulator {
namespace {

struct LoadArgument {
  uint32_t* r;
  const void* row;
  int matrices;
  bool transposed;
};

struct StoreArgument {
  const uint32_t* r;
  void* row;
};

struct MmaArgument {
  float* d;
  const uint32_t *a, *b;
};

// The row that `lane` addresses: 16 bytes of shared memory.
size_t rowOffset(const void* row, int lane, const char* name) {
  const void* pc = laneOf(lane).waiting.pc;
  const size_t offset = sharedOffset(row, name, pc);
  if (offset % 16 != 0) fatalAt(std::string(name) + ": row address not 16-byte aligned", pc);
  return offset;
}

float tf32(uint32_t bits) { return std::bit_cast<float>(bits & ~0x1fffu); }

template <int K, class ReadA, class ReadB>
void multiply(const Rendezvous& all, ReadA&& readA, ReadB&& readB) {
  float a[16][K], b[K][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& m = argumentOf<MmaArgument>(all, lane);
    readA(m.a, lane / 4, lane % 4, a);
    readB(m.b, lane / 4, lane % 4, b);
    for (int i = 0; i < 4; ++i) c[lane / 4 + (i >> 1) * 8][lane % 4 * 2 + (i & 1)] = m.d[i];
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < K; ++k) {
      for (int j = 0; j < 8; ++j) c[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* d = argumentOf<MmaArgument>(all, lane).d;
    for (int i = 0; i < 4; ++i) d[i] = c[lane / 4 + (i >> 1) * 8][lane % 4 * 2 + (i & 1)];
  }
}

}  // namespace

void loadMatrix(uint32_t* r, int matrices, bool transposed, const void* row) {
  LoadArgument mine{r, row, matrices, transposed};
  collective(Collective::loadMatrix, kWholeWarp, &mine, __builtin_return_address(0),
             [&](Warp&, const Rendezvous& all) {
               LaunchStats& stats = machine().report->stats;
               stats.ldmatrix++;
               for (int lane = 0; lane < 32; ++lane) {
                 const auto& l = argumentOf<LoadArgument>(all, lane);
                 if (l.matrices != matrices || l.transposed != transposed) {
                   fatal("DIVERGENCE: lanes disagree on the form of ldmatrix");
                 }
               }
               for (int matrix = 0; matrix < matrices; ++matrix) {
                 uint16_t at[8][8];
                 int banks[8] = {};
                 for (int i = 0; i < 8; ++i) {
                   const int lane = matrix * 8 + i;
                   const void* address = argumentOf<LoadArgument>(all, lane).row;
                   const size_t offset = rowOffset(address, lane, "ldmatrix");
                   accessShared(laneOf(lane), offset, 16, false, laneOf(lane).waiting.pc);
                   std::memcpy(at[i], address, 16);
                   banks[offset / 16 % 8]++;
                 }
                 stats.ldmatrixExtraPhases +=
                     static_cast<uint64_t>(*std::max_element(banks, banks + 8) - 1);
                 for (int lane = 0; lane < 32; ++lane) {
                   const int q = lane / 4, k = lane % 4 * 2;
                   const uint16_t low = transposed ? at[k][q] : at[q][k];
                   const uint16_t high = transposed ? at[k + 1][q] : at[q][k + 1];
                   argumentOf<LoadArgument>(all, lane).r[matrix] = low | static_cast<uint32_t>(high)
                                                                             << 16;
                 }
               }
             });
}

void storeMatrix(void* row, const uint32_t* r, int matrices, bool transposed) {
  StoreArgument mine{r, row};
  collective(Collective::storeMatrix, kWholeWarp, &mine, __builtin_return_address(0),
             [&](Warp&, const Rendezvous& all) {
               for (int matrix = 0; matrix < matrices; ++matrix) {
                 for (int i = 0; i < 8; ++i) {
                   const int lane = matrix * 8 + i;
                   auto* address = static_cast<uint8_t*>(argumentOf<StoreArgument>(all, lane).row);
                   accessShared(laneOf(lane), rowOffset(address, lane, "stmatrix"), 16, true,
                                laneOf(lane).waiting.pc);
                   for (int k = 0; k < 8; ++k) {
                     const int rowOf = transposed ? k : i, column = transposed ? i : k;
                     const uint32_t pair =
                         argumentOf<StoreArgument>(all, rowOf * 4 + column / 2).r[matrix];
                     const auto element = static_cast<uint16_t>(pair >> (column & 1) * 16);
                     std::memcpy(address + k * 2, &element, 2);
                   }
                 }
               }
             });
}

void mma16(float* d, const uint32_t* a, const uint32_t* b, bool isBf16) {
  MmaArgument mine{d, a, b};
  const float* value = halfValues(isBf16);
  collective(Collective::mma, kWholeWarp, &mine, __builtin_return_address(0),
             [&](Warp&, const Rendezvous& all) {
               machine().report->stats.mma++;
               multiply<16>(
                   all,
                   [&](const uint32_t* r, int g, int t, float(&to)[16][16]) {
                     for (int i = 0; i < 4; ++i) {
                       float* pair = &to[g + (i & 1) * 8][2 * t + (i >> 1) * 8];
                       pair[0] = value[r[i] & 0xffff];
                       pair[1] = value[r[i] >> 16];
                     }
                   },
                   [&](const uint32_t* r, int g, int t, float(&to)[16][8]) {
                     for (int i = 0; i < 2; ++i) {
                       to[2 * t + i * 8][g] = value[r[i] & 0xffff];
                       to[2 * t + i * 8 + 1][g] = value[r[i] >> 16];
                     }
                   });
             });
}

void mmaTf32(float* d, const uint32_t* a, const uint32_t* b) {
  MmaArgument mine{d, a, b};
  collective(Collective::mma, kWholeWarp, &mine, __builtin_return_address(0),
             [&](Warp&, const Rendezvous& all) {
               machine().report->stats.mma++;
               multiply<8>(
                   all,
                   [](const uint32_t* r, int g, int t, float(&to)[16][8]) {
                     for (int i = 0; i < 4; ++i) to[g + (i & 1) * 8][t + (i >> 1) * 4] = tf32(r[i]);
                   },
                   [](const uint32_t* r, int g, int t, float(&to)[8][8]) {
                     for (int i = 0; i < 2; ++i) to[t + i * 4][g] = tf32(r[i]);
                   });
             });
}

uint32_t roundToTf32(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;  // infinity and NaN
  return (bits + 0x1000u) & ~0x1fffu;
}

}  // namespace longspan::emulator
