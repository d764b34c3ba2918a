// What teams of threads agree on (cuda/reduce.cuh), for every size of a team, and the race that
// appears when two teams take one scratch without a barrier between them.
#include "cuda/emulator/tests/harness.h"
#include "cuda/reduce.cuh"

namespace longspan::cuda::test {
namespace {

struct Results {
  float sum, top, expSum, count, mean, squares;
  double before, total;
};

__global__ void agree(Results* out, int teamSize) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const float x = static_cast<float>(threadIdx.x % 37) - 11;
  Results* mine = out + threadIdx.x;
  mine->sum = team.sum(x);
  const Exponentials e = team.all(Exponentials{x, 1}, MergeExponentials{});
  mine->top = e.top;
  mine->expSum = e.sum;
  const Moments m = team.all(Moments{1, x, 0}, MergeMoments{});
  mine->count = m.count;
  mine->mean = m.mean;
  mine->squares = m.squares;
  double total;
  mine->before = team.before(static_cast<double>(x), total);
  mine->total = total;
}

__global__ void agreeOnColumns(float* out) {
  LONGSPAN_SHARED(shared);
  ColumnTeam team(shared);
  const float first = team.all(static_cast<float>(team.slice), Add{});
  out[threadIdx.x] = first + team.all(static_cast<float>(team.column), Larger{});
}

__global__ void shareScratch(float* out, bool barrier) {
  LONGSPAN_SHARED(shared);
  Team first(static_cast<int>(blockDim.x), shared);
  float x = first.sum(static_cast<float>(threadIdx.x));
  if (barrier) __syncthreads();
  Team second(static_cast<int>(blockDim.x), shared);
  x += second.sum(1);
  out[threadIdx.x] = x;
}

LONGSPAN_CASE("reductions", "teams of 4 to 512 threads agree to the bit") {
  forSchedules([] {
    for (int size = 4; size <= 512; size *= 2) {
      const int threads = size < 128 ? 128 : size;
      const Buffer<Results> out(static_cast<size_t>(threads));
      expectClean(launch(agree, dim3(1), dim3(static_cast<uint32_t>(threads)), kTeamScratch,
                         nullptr, out.get(), size > 32 ? threads : size));
      const auto results = out.download();
      const int team = size > 32 ? threads : size;
      double before = 0;
      for (int i = 0; i < threads; ++i) {
        const int first = i / team * team;
        if (i == first) before = 0;
        double sum = 0, top = -INFINITY, expSum = 0, squares = 0;
        for (int j = first; j < first + team; ++j) {
          sum += j % 37 - 11;
          top = std::max<double>(top, j % 37 - 11);
        }
        for (int j = first; j < first + team; ++j) {
          const double x = j % 37 - 11;
          expSum += std::exp(x - top);
          squares += (x - sum / team) * (x - sum / team);
        }
        const Results& r = results[static_cast<size_t>(i)];
        const Results& lead = results[static_cast<size_t>(first)];
        expectClose(r.sum, sum, 1e-6 * team, "sum");
        expect(r.top == static_cast<float>(top) && r.count == static_cast<float>(team), "exact");
        expectClose(r.expSum, expSum, 1e-5 * expSum, "sum of exponentials");
        expectClose(r.mean, sum / team, 1e-5, "mean");
        expectClose(r.squares, squares, 1e-5 * squares, "squared distances");
        expect(r.before == before && r.total == sum, "running sum");
        expect(r.expSum == lead.expSum && r.mean == lead.mean && r.squares == lead.squares,
               "all threads of a team have the same bits");
        before += i % 37 - 11;
      }
    }
  });
}

LONGSPAN_CASE("reductions", "columns of a block agree") {
  forSchedules([] {
    const Buffer<float> out(ColumnTeam::kThreads);
    expectClean(launch(agreeOnColumns, dim3(1), dim3(ColumnTeam::kThreads),
                       ColumnTeam::kThreads * sizeof(float), nullptr, out.get()));
    const auto results = out.download();
    for (int i = 0; i < ColumnTeam::kThreads; ++i) {
      expect(results[static_cast<size_t>(i)] == static_cast<float>(120 + i % 32), "column");
    }
  });
}

LONGSPAN_CASE("reductions", "planted: a second team takes the scratch of the first too early") {
  const Buffer<float> out(128);
  forSchedules([&] {
    expectClean(launch(shareScratch, dim3(1), dim3(128), kTeamScratch, nullptr, out.get(), true));
  });
  expectFinding(launch(shareScratch, dim3(1), dim3(128), kTeamScratch, nullptr, out.get(), false),
                "RACE");
}

}  // namespace
}  // namespace longspan::cuda::test
