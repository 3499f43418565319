#include "kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

#define LANES 8

namespace deepthin {
namespace {

typedef __m256 Vec;

inline Vec splat(float x) { return _mm256_set1_ps(x); }

inline void transpose(Vec (&v)[LANES]) {
  Vec a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

#include "kernels.inl"

constexpr Kernels kKernels = DEEPTHIN_KERNEL_TABLE("avx2");

}  // namespace

const Kernels* avx2_kernels() { return &kKernels; }

}  // namespace deepthin
#else
const deepthin::Kernels* deepthin::avx2_kernels() { return nullptr; }
#endif
