#include "gates.h"
#include "kernels.h"
#include "stored_kernels.h"
#include "training/steps.h"

#if defined(__AVX512F__)
#include <immintrin.h>

#define LANES 16

namespace deepthin {
namespace {

typedef __m512 Vec;
typedef uint32_t BitsVec __attribute__((vector_size(64)));

inline Vec splat(float x) { return _mm512_set1_ps(x); }

inline Vec load(const uint16_t* half) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(half)));
}

inline Vec gather(const float* table, BitsVec index) { return _mm512_i32gather_ps((__m512i)index, table, 4); }

// Turns words with the numbers of four lanes each into one number a lane.
class Spread {
 public:
  static constexpr size_t per_word = 4;
  explicit Spread(uint32_t bits)
      : shift_((BitsVec)_mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3),
                                           _mm512_set1_epi32(int(bits)))),
        mask_((1u << bits) - 1) {}
  BitsVec operator()(const uint64_t (&word)[4]) const {
    const __m128i low = _mm_setr_epi32(int(word[0]), int(word[1]), int(word[2]), int(word[3]));
    const __m512i each = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return ((BitsVec)_mm512_permutexvar_epi32(each, _mm512_castsi128_si512(low)) >> shift_) & mask_;
  }

 private:
  BitsVec shift_;
  uint32_t mask_;
};

inline BitsVec high_product(BitsVec a, uint32_t b) {
  const __m512i factor = _mm512_set1_epi64(b);
  const __m512i even = _mm512_mul_epu32((__m512i)a, factor);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), factor);
  return (BitsVec)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
}

class SmallTable {
 public:
  explicit SmallTable(const float* table) : table_(_mm512_loadu_ps(table)) {}
  Vec operator[](BitsVec index) const { return _mm512_permutexvar_ps((__m512i)index, table_); }

 private:
  Vec table_;
};
using TinyTable = SmallTable;

class MediumTable {
 public:
  explicit MediumTable(const float* table) : low_(_mm512_loadu_ps(table)), high_(_mm512_loadu_ps(table + 16)) {}
  Vec operator[](BitsVec index) const { return _mm512_permutex2var_ps(low_, (__m512i)index, high_); }

 private:
  Vec low_, high_;
};

// Every lane and those before it.
inline BitsVec running_sum(BitsVec v) {
  const __m512i zero = _mm512_setzero_si512();
  __m512i sum = (__m512i)v;
  sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 15));
  sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 14));
  sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 12));
  return (BitsVec)_mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 8));
}

inline BitsVec last_lane(BitsVec v) {
  return (BitsVec)_mm512_permutexvar_epi32(_mm512_set1_epi32(LANES - 1), (__m512i)v);
}

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
