// Random fills. Cost: 40 integer multiplications per 4 elements, one write of the output.
//
// Built with -ffp-contract=off: only correctly rounded +, -, *, / and sqrt in one fixed order, so
// the numbers are equal to the last bit on every device and at every instruction-set level.
#include "cpp/ops/dense/random.h"

#include <cmath>

#include "cpp/core/quarter_turn.h"
#include "cpp/cpu/philox_words.h"
#include "cpp/cpu/rows.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

// ln(k / 2^24) for 1 <= k <= 2^24: 2 atanh((m - 1) / (m + 1)) with m in [0.70, 1.42), truncated at
// 2e-9.
inline float logOfUniform(uint32_t k) {
  const uint32_t bits =
      std::bit_cast<uint32_t>(static_cast<float>(k)) + (0x3f800000u - 0x3f3504f3u);
  const float exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127 - 24);
  const float m = std::bit_cast<float>((bits & 0x007fffffu) + 0x3f3504f3u);
  const float s = (m - 1.0f) / (m + 1.0f);
  const float q = s * s;
  const float series = ((((q * (1.0f / 9)) + 1.0f / 7) * q + 1.0f / 5) * q + 1.0f / 3) * q;
  return exponent * 0.693147180559945309f + (2.0f * s + 2.0f * s * series);
}

// Box and Muller 1958: two uniforms give two normal numbers. The largest magnitude is 5.77.
inline void boxMuller(uint32_t first, uint32_t second, float* z) {
  const float radius = std::sqrt(-2.0f * logOfUniform((first >> 8) + 1));
  // A turn is cut into quarters centred on the axes: |x| <= pi / 4.
  const uint32_t turn = second >> 8;
  const uint32_t quarter = (turn + (1u << 21)) >> 22;
  const auto rest =
      static_cast<float>(static_cast<int32_t>(turn) - static_cast<int32_t>(quarter << 22));
  const float x = rest * (1.57079632679489662f * 0x1p-22f);
  float s, c;
  sineAndCosine(x, s, c);
  const bool swap = (quarter & 1u) != 0;
  const float cosine = swap ? -s : c, sine = swap ? c : s;
  const float sign = (quarter & 2u) != 0 ? -radius : radius;
  z[0] = sign * cosine;
  z[1] = sign * sine;
}

// Writes tiles of floats made from tiles of words.
template <class F>
void fillFloats(const TensorView& state, const TensorView& y, ThreadPool& pool, F&& make) {
  forPhiloxTiles(pool, loadPhilox(state.data<int32_t>()), y.numel(),
                 [&](int64_t first, int64_t count, const uint32_t* words) {
                   float tile[kPhiloxTile];
                   make(words, tile);
                   storeRow(y, first, 1, count, tile);
                 });
}

}  // namespace

Status uniform(const ops::Uniform& p, Context& context) {
  const auto low = static_cast<float>(p.low), range = static_cast<float>(p.high - p.low);
  fillFloats(p.state, p.y, context.pool, [&](const uint32_t* words, float* tile) {
    for (int i = 0; i < kPhiloxTile; ++i) tile[i] = low + range * toUniform(words[i]);
  });
  return {};
}

Status normal(const ops::Normal& p, Context& context) {
  const auto mean = static_cast<float>(p.mean), std = static_cast<float>(p.std);
  fillFloats(p.state, p.y, context.pool, [&](const uint32_t* words, float* tile) {
    for (int i = 0; i < kPhiloxTile; i += 2) boxMuller(words[i], words[i + 1], tile + i);
    for (int i = 0; i < kPhiloxTile; ++i) tile[i] = mean + std * tile[i];
  });
  return {};
}

Status bernoulli(const ops::Bernoulli& p, Context& context) {
  const uint32_t threshold = ops::probabilityThreshold(p.p);
  dispatchAny(p.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* y = p.y.data<T>();
    const T yes = store<T>(1), no = store<T>(0);
    forPhiloxTiles(context.pool, loadPhilox(p.state.data<int32_t>()), p.y.numel(),
                   [&](int64_t first, int64_t count, const uint32_t* words) {
                     for (int64_t i = 0; i < count; ++i)
                       y[first + i] = words[i] >> 8 < threshold ? yes : no;
                   });
  });
  return {};
}

Status randint(const ops::RandInt& p, Context& context) {
  int32_t* y = p.y.data<int32_t>();
  const auto range = static_cast<uint64_t>(p.high - p.low);
  forPhiloxTiles(context.pool, loadPhilox(p.state.data<int32_t>()), p.y.numel(),
                 [&](int64_t first, int64_t count, const uint32_t* words) {
                   for (int64_t i = 0; i < count; ++i) {
                     y[first + i] =
                         static_cast<int32_t>(p.low + static_cast<int64_t>(words[i] * range >> 32));
                   }
                 });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
