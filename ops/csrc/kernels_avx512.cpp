#include "kernels.h"

#if defined(__AVX512F__)
#include <immintrin.h>

#define LANES 16

namespace deepthin {
namespace {

typedef __m512 Vec;

inline Vec splat(float x) { return _mm512_set1_ps(x); }

inline void transpose(Vec (&v)[LANES]) {
  Vec a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  // b[4 * g + j] holds, in its quarter h, column 4 * h + j of rows 4 * g .. 4 * g + 3: transpose the quarters.
  for (int j = 0; j < 4; ++j) {
    const Vec low01 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88), high01 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
    const Vec low23 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
    const Vec high23 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
    v[j] = _mm512_shuffle_f32x4(low01, low23, 0x88);
    v[4 + j] = _mm512_shuffle_f32x4(high01, high23, 0x88);
    v[8 + j] = _mm512_shuffle_f32x4(low01, low23, 0xdd);
    v[12 + j] = _mm512_shuffle_f32x4(high01, high23, 0xdd);
  }
}

#include "kernels.inl"

constexpr Kernels kKernels = DEEPTHIN_KERNEL_TABLE("avx512");

}  // namespace

const Kernels* avx512_kernels() { return &kKernels; }

}  // namespace deepthin
#else
const deepthin::Kernels* deepthin::avx512_kernels() { return nullptr; }
#endif
