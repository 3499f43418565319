// Half-precision numbers (IEEE 754 binary16) as bits, where speed does not matter.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace deepthin {

inline float half_to_float(uint16_t half) {
  const float sign = half & 0x8000 ? -1.0f : 1.0f;
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(float(1024 + mantissa), exponent - 25) : std::ldexp(float(mantissa), -24));
}

// The nearest one, of two as near the even one; infinite above the largest.
inline uint16_t float_to_half(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (size == 0) return sign;
  if (!(size < INFINITY)) return static_cast<uint16_t>(sign | (std::isnan(value) ? 0x7e00 : 0x7c00));
  int exponent;
  std::frexp(size, &exponent);
  // Numbers below 2^-14 have a fixed step of 2^-24.
  const int step = (exponent < -13 ? -13 : exponent) - 11;
  const float steps = std::nearbyint(std::ldexp(size, -step));
  if (step > 5) return static_cast<uint16_t>(sign | 0x7c00);
  const uint32_t bits = static_cast<uint32_t>(steps) + (static_cast<uint32_t>(step + 24) << 10);
  return static_cast<uint16_t>(sign | (bits > 0x7c00 ? 0x7c00 : bits));
}

}  // namespace deepthin
