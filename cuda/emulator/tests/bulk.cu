// Bulk copies: tiles of two to four axes, ranges, reductions, and their misuse.
#include "cuda/emulator/tests/harness.h"
#include "cuda/ptx.cuh"

namespace longspan::cuda::test {
namespace {

constexpr uint32_t kTile = 8 * 16;  // elements

enum class LoadBug {
  none,
  expectTooFew,
  expectTooMany,
  wrongParity,
  misaligned,
  noInitFence,
  noInitBarrier,
  overwritesStores,
  twice,
};

// Loads the box at (x, y, z, w) of a tensor of 2 to 4 axes and writes it out as it lies.
template <class T, int Rank>
__global__ void loadsTile(const __grid_constant__ TensorMap map, T* out, int x, int y,
                          uint32_t bytes, LoadBug bug) {
  LONGSPAN_SHARED(shared);
  auto* barrier = reinterpret_cast<uint64_t*>(shared + 4096);
  T* tile = reinterpret_cast<T*>(shared);
  if (bug == LoadBug::overwritesStores) tile[threadIdx.x] = T{};
  if (threadIdx.x == 0) {
    ptx::mbarrierInit(barrier, 1);
    if (bug != LoadBug::noInitFence) ptx::fenceMbarrierInit();
  }
  if (bug != LoadBug::noInitBarrier) __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t expected = bytes;
    if (bug == LoadBug::expectTooFew) expected -= 16;
    if (bug == LoadBug::expectTooMany) expected += 16;
    ptx::mbarrierArriveExpect(barrier, expected);
    void* to = shared + (bug == LoadBug::misaligned ? 64 : 0);
    for (int i = 0; i < (bug == LoadBug::twice ? 2 : 1); ++i) {
      if constexpr (Rank == 2) ptx::bulkLoad(to, &map, barrier, x, y);
      if constexpr (Rank == 3) ptx::bulkLoad(to, &map, barrier, x, y, 1);
      if constexpr (Rank == 4) ptx::bulkLoad(to, &map, barrier, x, y, 1, 2);
    }
  }
  ptx::mbarrierWait(barrier, bug == LoadBug::wrongParity ? 1 : 0);
  for (uint32_t i = threadIdx.x; i < bytes / sizeof(T); i += blockDim.x) out[i] = tile[i];
}

enum class StoreBug { none, noProxyFence, noWait, overwritesSource, uninitialised };

// Writes (or adds) a tile counting from 1, at (x, y, ...).
template <class T, int Rank, bool Add>
__global__ void storesTile(const __grid_constant__ TensorMap map, int x, int y, StoreBug bug) {
  LONGSPAN_SHARED(shared);
  T* tile = reinterpret_cast<T*>(shared);
  for (uint32_t i = threadIdx.x; i < kTile; i += blockDim.x) {
    if (bug == StoreBug::uninitialised && i == 3) continue;
    tile[i] = fromFloat<T>(static_cast<float>(i + 1));
  }
  if (bug != StoreBug::noProxyFence) ptx::fenceProxyAsync();
  __syncthreads();
  if (threadIdx.x != 0) return;
  if constexpr (Add) {
    if constexpr (Rank == 2) ptx::bulkAdd(&map, tile, x, y);
    if constexpr (Rank == 3) ptx::bulkAdd(&map, tile, x, y, 1);
    if constexpr (Rank == 4) ptx::bulkAdd(&map, tile, x, y, 1, 2);
  } else {
    if constexpr (Rank == 2) ptx::bulkStore(&map, tile, x, y);
    if constexpr (Rank == 3) ptx::bulkStore(&map, tile, x, y, 1);
    if constexpr (Rank == 4) ptx::bulkStore(&map, tile, x, y, 1, 2);
  }
  ptx::bulkCommit();
  if (bug == StoreBug::overwritesSource) tile[0] = T{};
  if (bug == StoreBug::noWait) return;
  ptx::bulkWaitRead<0>();
}

__global__ void copiesRange(const float* in, float* out, bool add) {
  LONGSPAN_SHARED(shared);
  auto* barrier = reinterpret_cast<uint64_t*>(shared + 1024);
  if (threadIdx.x == 0) {
    ptx::mbarrierInit(barrier, 1);
    ptx::fenceMbarrierInit();
    ptx::mbarrierExpect(barrier, 256);
    ptx::mbarrierArrive(barrier);
    ptx::bulkLoadRange(shared, in, 256, barrier);
    ptx::mbarrierWait(barrier, 0);
    if (add) {
      ptx::bulkAddRange(out, reinterpret_cast<const float*>(shared), 256);
    } else {
      ptx::bulkStoreRange(out, shared, 256);
    }
    ptx::bulkCommit();
    ptx::bulkWait<0>();
  }
}

// A [w, z, y, x] tensor of extents 3, 2, 20, 24 and its map with a box of 16 x 8 (x 1 x 1).
template <class T>
TensorMap mapOf(const T* base, int rank, int swizzle = 0) {
  TensorMapLayout layout;
  layout.type = dtypeOf<T>();
  layout.rank = rank;
  layout.base = base;
  layout.swizzleBytes = swizzle;
  const uint64_t extent[4] = {24, 20, 2, 3};
  uint64_t stride = sizeof(T);
  for (int i = 0; i < rank; ++i) {
    layout.extent[i] = extent[i];
    layout.strideBytes[i] = stride;
    stride *= extent[i];
    layout.box[i] = i == 0 ? 16 : i == 1 ? 8 : 1;
  }
  TensorMap map;
  expectClean(encodeTensorMap(&map, layout));
  return map;
}

constexpr size_t kExtents[5] = {1, 24, 24 * 20, 24 * 20 * 2, 24 * 20 * 2 * 3};

size_t offsetOf(int rank) {
  return (rank > 2 ? kExtents[2] : 0) + (rank > 3 ? 2 * kExtents[3] : 0);
}

bool inside(int x, int y) { return x >= 0 && x < 24 && y >= 0 && y < 20; }

template <class T, int Rank>
void checkLoad(int x, int y, int swizzle = 0) {
  const auto values = wholeNumbers(kExtents[Rank], 1, -100, 100);
  const Buffer<T> in(narrowed<T>(values)), out(kTile);
  expectClean(launch(loadsTile<T, Rank>, dim3(1), dim3(32), 8192, nullptr,
                     mapOf<T>(in.get(), Rank, swizzle), out.get(), x, y,
                     static_cast<uint32_t>(kTile * sizeof(T)), LoadBug::none));
  const auto v = out.download();
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 16; ++c) {
      const float wanted = inside(x + c, y + r)
                               ? values[offsetOf(Rank) + static_cast<size_t>((y + r) * 24 + x + c)]
                               : 0.f;
      size_t at = static_cast<size_t>(r * 16 + c);
      if (swizzle == 32) {  // 16-byte chunks of rows of 32 bytes: bit 4 ^= bit 7
        size_t byte = at * sizeof(T);
        byte ^= (byte >> 7 & 1) << 4;
        at = byte / sizeof(T);
      }
      expect(toFloat(v[at]) == wanted, "element of the tile");
    }
  }
}

template <class T, int Rank, bool Add>
void checkStore(int x, int y) {
  const auto before = wholeNumbers(kExtents[Rank], 2, 0, 3);
  const Buffer<T> out(narrowed<T>(before));
  expectClean(launch(storesTile<T, Rank, Add>, dim3(1), dim3(32), 4096, nullptr,
                     mapOf<T>(out.get(), Rank), x, y, StoreBug::none));
  const auto v = out.download();
  for (size_t i = 0; i < v.size(); ++i) {
    float wanted = before[i];
    const int row = static_cast<int>(i % kExtents[2] / 24) - y,
              column = static_cast<int>(i % 24) - x;
    const bool slice = i - i % kExtents[2] == offsetOf(Rank);
    if (slice && row >= 0 && row < 8 && column >= 0 && column < 16) {
      const auto number = static_cast<float>(row * 16 + column + 1);
      wanted = Add ? before[i] + number : number;
    }
    expect(toFloat(v[i]) == wanted, "element of the target");
  }
}

LONGSPAN_CASE("bulk", "loads of two, three and four axes, inside and across every edge") {
  forSchedules([] {
    checkLoad<bf16, 2>(0, 0);
    checkLoad<bf16, 2>(-3, 5);
    checkLoad<bf16, 2>(16, -2);
    checkLoad<bf16, 2>(13, 17);
    checkLoad<bf16, 2>(40, 0);
    checkLoad<bf16, 3>(8, 4);
    checkLoad<bf16, 4>(5, 15);
    checkLoad<f16, 2>(2, 2, 32);
    checkLoad<float, 2>(-1, -1);
  });
}

LONGSPAN_CASE("bulk", "stores and reductions skip what lies outside") {
  forSchedules([] {
    checkStore<bf16, 2, false>(0, 0);
    checkStore<bf16, 2, false>(-3, 15);
    checkStore<bf16, 3, false>(13, -1);
    checkStore<bf16, 4, false>(4, 4);
    checkStore<float, 2, true>(-3, 15);
    checkStore<float, 3, true>(0, 0);
    checkStore<float, 4, true>(12, 13);
    checkStore<bf16, 2, true>(1, 1);
    checkStore<f16, 2, true>(1, 1);
    checkStore<int32_t, 2, true>(1, 1);
  });
}

LONGSPAN_CASE("bulk", "ranges") {
  forSchedules([] {
    const auto values = wholeNumbers(64, 3);
    const Buffer<float> in(values), out(filled(64, 1.f));
    expectClean(launch(copiesRange, dim3(1), dim3(32), 2048, nullptr, in.get(), out.get(), true));
    expect(out.download()[9] == values[9] + 1.f, "added");
    expectClean(launch(copiesRange, dim3(1), dim3(32), 2048, nullptr, in.get(), out.get(), false));
    expect(out.download()[9] == values[9], "stored");
  });
}

LONGSPAN_CASE("bulk", "misuse of loads") {
  forSchedules([] {
    const Buffer<bf16> in(narrowed<bf16>(filled(kExtents[2], 1.f))), out(kTile);
    const TensorMap map = mapOf<bf16>(in.get(), 2);
    const auto run = [&](LoadBug bug) {
      return launch(loadsTile<bf16, 2>, dim3(1), dim3(32), 8192, nullptr, map, out.get(), 0, 0,
                    static_cast<uint32_t>(kTile * 2), bug);
    };
    expectFinding(run(LoadBug::expectTooMany), "DEADLOCK");
    expectFinding(run(LoadBug::wrongParity), "in flight");
    expectFinding(run(LoadBug::misaligned), "aligned to 128");
    expectFinding(run(LoadBug::noInitFence), "PROXY");
    expectFinding(run(LoadBug::overwritesStores), "PROXY");
    expectFinding(run(LoadBug::twice), "in flight");
    expectFinding(run(LoadBug::expectTooFew), "");
  });
}

LONGSPAN_CASE("bulk", "misuse of stores") {
  forSchedules([] {
    const Buffer<bf16> out(kExtents[2]);
    const TensorMap map = mapOf<bf16>(out.get(), 2);
    const auto run = [&](StoreBug bug) {
      return launch(storesTile<bf16, 2, false>, dim3(1), dim3(32), 4096, nullptr, map, 0, 0, bug);
    };
    expectFinding(run(StoreBug::noProxyFence), "PROXY");
    expectFinding(run(StoreBug::noWait), "did not wait for");
    expectFinding(run(StoreBug::overwritesSource), "still reads");
    expectFinding(run(StoreBug::uninitialised), "UNINITIALISED");
  });
}

LONGSPAN_CASE("bulk", "maps that the driver would refuse, or that reach outside their buffer") {
  const Buffer<bf16> in(narrowed<bf16>(filled(kExtents[2]))), out(kTile);
  TensorMapLayout good;
  good.base = in.get();
  good.extent[0] = 24;
  good.extent[1] = 20;
  good.strideBytes[1] = 48;
  good.box[0] = 16;
  good.box[1] = 8;
  TensorMap map;
  expectClean(encodeTensorMap(&map, good));
  const auto refused = [&](auto change) {
    TensorMapLayout bad = good;
    change(bad);
    expectError(encodeTensorMap(&map, bad), cudaErrorInvalidValue);
  };
  refused([](auto& l) { l.base = static_cast<const char*>(l.base) + 8; });
  refused([](auto& l) { l.strideBytes[1] = 40; });
  refused([](auto& l) { l.box[0] = 12; });
  refused([](auto& l) { l.box[1] = 257; });
  refused([](auto& l) { l.swizzleBytes = 16; });
  refused([](auto& l) {
    l.box[0] = 24;
    l.swizzleBytes = 32;
  });
  good.extent[1] = 21;  // one row more than the buffer has
  expectClean(encodeTensorMap(&map, good));
  expectFinding(launch(loadsTile<bf16, 2>, dim3(1), dim3(32), 8192, nullptr, map, out.get(), 0, 16,
                       static_cast<uint32_t>(kTile * 2), LoadBug::none),
                "OUT OF BOUNDS");
  expectFinding(launch(loadsTile<bf16, 3>, dim3(1), dim3(32), 8192, nullptr, map, out.get(), 0, 0,
                       static_cast<uint32_t>(kTile * 2), LoadBug::none),
                "rank differs");
}

}  // namespace
}  // namespace longspan::cuda::test
