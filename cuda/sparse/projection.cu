// For lshBuckets and kmeansAssign: what of the products of a token with many columns is largest,
// without the matrix of products.
//
// A block takes 128 tokens of a head, a thread one of them. Tokens lie in shared memory,
// transposed, kProjectedDepth elements of each at a time; so do kProjectedColumns columns, which
// all threads read alike. A thread holds kProjectedColumns products in registers and keeps the
// largest (for hashing also the least) so far. Cost: 2 D C FLOPs a token for C columns, on FMA
// units, whose inputs come from shared memory at 3 accesses per 8 FMAs; tokens are read once where
// D <= kProjectedDepth, else once per kProjectedColumns columns (from the L2). Columns are read
// once per block. H200: about half of FMA speed, 25 TFLOP/s, is expected: hashing 16384 tokens of 8
// heads of 64 in 4 rounds of 16 x 16 buckets 45 us, 128 clusters 90 us. Right on an H200; times:
// bench/results/nvidia-h200.json.
#include <algorithm>

#include "cuda/sparse/projection.cuh"

namespace longspan::cuda {
namespace {

constexpr int kProjectedTokens = 128, kProjectedDepth = 64, kProjectedColumns = 8;
constexpr int kProjectedPitch = kProjectedTokens + 1;  // rows begin in different banks

__global__ void __launch_bounds__(kProjectedTokens)
    projectionKernel(const __grid_constant__ ProjectionJob job) {
  LONGSPAN_SHARED(shared);
  float* const tokens = reinterpret_cast<float*>(shared);  // [kProjectedDepth][kProjectedPitch]
  float* const columns =
      tokens + kProjectedDepth * kProjectedPitch;  // [kProjectedDepth][kProjectedColumns]
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t b = blockIdx.z, h = blockIdx.y, line = b * job.heads + h;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kProjectedTokens, token = first + thread;
  int64_t length = job.n;
  if (job.lengths != nullptr) length = min(length, static_cast<int64_t>(job.lengths[b]));
  const int64_t xAt = b * job.xBatch + h * job.xHead;
  const bool oneDepth = job.dim <= kProjectedDepth;

  const auto loadTokens = [&](int64_t d0, int depth) {
    // Neighbouring threads read neighbouring elements of a token.
    for (int i = thread; i < kProjectedTokens * kProjectedDepth; i += kProjectedTokens) {
      const int t = i / kProjectedDepth, d = i % kProjectedDepth;
      float value = 0;
      if (d < depth && first + t < length) {
        value = loadFloat(job.x, xAt + (first + t) * job.xToken + (d0 + d) * job.xStep);
      }
      tokens[d * kProjectedPitch + t] = value;
    }
  };
  if (oneDepth) loadTokens(0, static_cast<int>(job.dim));

  float squares = 0;
  for (int round = 0; round < job.rounds; ++round) {
    int64_t group = 0, scale = 1, before = 0;
    float score = 0;
    for (int factor = 0; factor < job.factors; ++factor) {
      const int count = job.columnsOf[factor];
      const int64_t columnAt = h * job.columnHead + round * job.columnRound;
      float most = -INFINITY, least = INFINITY;
      int mostAt = 0, leastAt = 0;
      for (int c0 = 0; c0 < count; c0 += kProjectedColumns) {
        const bool squared = job.scores != nullptr && c0 == 0;
        float product[kProjectedColumns] = {};
        for (int64_t d0 = 0; d0 < job.dim; d0 += kProjectedDepth) {
          const int depth =
              static_cast<int>(min(static_cast<int64_t>(kProjectedDepth), job.dim - d0));
          __syncthreads();  // the tiles before have been read
          if (!oneDepth) loadTokens(d0, depth);
          for (int i = thread; i < kProjectedColumns * kProjectedDepth; i += kProjectedTokens) {
            const int c = i / kProjectedDepth, d = i % kProjectedDepth;
            float value = 0;
            if (d < depth && c0 + c < count) {
              value = loadFloat(job.columns, columnAt + (before + c0 + c) * job.columnColumn +
                                                 (d0 + d) * job.columnStep);
            }
            columns[d * kProjectedColumns + c] = value;
          }
          __syncthreads();
          for (int d = 0; d < depth; ++d) {
            const float x = tokens[d * kProjectedPitch + thread];
            if (squared) squares += x * x;
#pragma unroll
            for (int c = 0; c < kProjectedColumns; ++c)
              product[c] += x * columns[d * kProjectedColumns + c];
          }
        }
#pragma unroll
        for (int c = 0; c < kProjectedColumns; ++c) {
          if (c0 + c >= count) continue;
          if (product[c] > most) {
            most = product[c];
            mostAt = c0 + c;
          }
          if (product[c] < least) {
            least = product[c];
            leastAt = c0 + c;
          }
        }
      }
      const bool negative = job.hashes && -least > most;
      group += scale * (negative ? count + leastAt : mostAt);
      scale *= 2 * count;
      before += count;
      score = most;
    }
    if (token >= job.n) continue;
    const bool padding = token >= length;
    job.groups[(line * job.rounds + round) * job.n + token] =
        padding ? job.none : static_cast<int32_t>(group);
    if (job.scores != nullptr) {
      job.scores[line * job.n + token] = padding ? 0.0f : score * inverseLength(squares);
    }
  }
}

}  // namespace

Status launchProjection(ProjectionJob job, const TensorView& x, const TensorView& lengths,
                        Context& context) {
  job.x = AnyElements(x);
  job.xBatch = x.stride[0];
  job.xHead = x.stride[1];
  job.xToken = x.stride[2];
  job.xStep = x.stride[3];
  job.lengths = lengths.defined() ? lengths.data<int32_t>() : nullptr;
  job.heads = x.shape[1];
  job.n = x.shape[2];
  job.dim = x.shape[3];
  const int64_t tiles = (job.n + kProjectedTokens - 1) / kProjectedTokens;
  if (x.shape[0] * job.heads * tiles == 0) return {};
  const dim3 grid(static_cast<uint32_t>(tiles), static_cast<uint32_t>(job.heads),
                  static_cast<uint32_t>(x.shape[0]));
  const size_t bytes = kProjectedDepth * (kProjectedPitch + kProjectedColumns) * sizeof(float);
  return launched(
      launch(projectionKernel, grid, dim3(kProjectedTokens), bytes, context.stream, job));
}

}  // namespace longspan::cuda
