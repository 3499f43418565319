#include "kernels.h"
#include "training/steps.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

#define LANES 8

namespace deepthin {
namespace {

typedef __m256 Vec;
typedef uint32_t BitsVec __attribute__((vector_size(32)));

inline Vec splat(float x) { return _mm256_set1_ps(x); }

inline Vec gather(const float* table, BitsVec index) { return _mm256_i32gather_ps(table, (__m256i)index, 4); }

inline BitsVec quads(const uint32_t (&word)[LANES / 4]) {
  return (BitsVec)_mm256_set_m128i(_mm_set1_epi32(int(word[1])), _mm_set1_epi32(int(word[0])));
}

inline BitsVec high_product(BitsVec a, uint32_t b) {
  const __m256i factor = _mm256_set1_epi64x(b);
  const __m256i even = _mm256_mul_epu32((__m256i)a, factor);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), factor);
  return (BitsVec)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}

class SmallTable {
 public:
  explicit SmallTable(const float* table) : low_(_mm256_loadu_ps(table)), high_(_mm256_loadu_ps(table + 8)) {}
  Vec operator[](BitsVec index) const {
    const __m256i i = (__m256i)index;
    // The bit that tells the halves apart becomes the sign, which is what the blend looks at.
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low_, i), _mm256_permutevar8x32_ps(high_, i),
                            _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
  }

 private:
  Vec low_, high_;
};

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
