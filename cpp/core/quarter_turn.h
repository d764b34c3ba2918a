// Sine and cosine of angles between the axes, where short polynomials are as exact as f32 is.
#pragma once

#include "cpp/core/host_device.h"

namespace longspan {

// |x| <= pi / 4, in radians; Taylor series whose first terms left out are below 1e-7.
LONGSPAN_HOST_DEVICE void sineAndCosine(float x, float& sine, float& cosine) {
  const float q = x * x;
  sine = x + x * (q * (((q * (1.0f / 362880) - 1.0f / 5040) * q + 1.0f / 120) * q - 1.0f / 6));
  cosine =
      1.0f +
      q * ((((q * (-1.0f / 3628800) + 1.0f / 40320) * q - 1.0f / 720) * q + 1.0f / 24) * q - 0.5f);
}

}  // namespace longspan
