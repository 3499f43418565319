#include "gates.h"
#include "kernels.h"
#include "stored_kernels.h"
#include "training/steps.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

#define LANES 8

namespace deepthin {
namespace {

typedef __m256 Vec;
typedef uint32_t BitsVec __attribute__((vector_size(32)));

inline Vec splat(float x) { return _mm256_set1_ps(x); }

// Eight loads: as fast as the instruction for it or faster, above all on AMD's processors.
inline Vec load(const uint16_t* half) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half)));
}

inline Vec gather(const float* table, BitsVec index) {
  const __m128i low = _mm256_castsi256_si128((__m256i)index), high = _mm256_extracti128_si256((__m256i)index, 1);
  const uint64_t pair[4] = {uint64_t(_mm_cvtsi128_si64(low)), uint64_t(_mm_extract_epi64(low, 1)),
                            uint64_t(_mm_cvtsi128_si64(high)), uint64_t(_mm_extract_epi64(high, 1))};
  const auto at = [&](int i) { return table[i % 2 ? pair[i / 2] >> 32 : uint32_t(pair[i / 2])]; };
  return Vec{at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)};
}

// Turns a word with the numbers of all eight lanes into one number a lane.
class Spread {
 public:
  static constexpr size_t per_word = 8;
  explicit Spread(uint32_t bits) : mask_((1u << bits) - 1) {
    uint32_t bytes[LANES], shift[LANES];
    for (uint32_t lane = 0; lane < LANES; ++lane) {
      // A lane's number lies in two neighbouring bytes; the word's first follows on its last, and is masked away.
      const uint32_t byte = lane * bits / 8;
      bytes[lane] = 0x80800000u | (byte + 1) << 8 | byte;
      shift[lane] = lane * bits % 8;
    }
    bytes_ = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
    shift_ = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(shift));
  }
  BitsVec operator()(const uint64_t (&word)[1]) const {
    const __m256i pairs = _mm256_shuffle_epi8(_mm256_set1_epi64x(int64_t(word[0])), bytes_);
    return (BitsVec)_mm256_srlv_epi32(pairs, shift_) & mask_;
  }

 private:
  __m256i bytes_, shift_;
  uint32_t mask_;
};

inline BitsVec high_product(BitsVec a, uint32_t b) {
  const __m256i factor = _mm256_set1_epi64x(b);
  const __m256i even = _mm256_mul_epu32((__m256i)a, factor);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), factor);
  return (BitsVec)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}

class TinyTable {
 public:
  explicit TinyTable(const float* table) : table_(_mm256_loadu_ps(table)) {}
  Vec operator[](BitsVec index) const { return _mm256_permutevar8x32_ps(table_, (__m256i)index); }

 private:
  Vec table_;
};

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

class MediumTable {
 public:
  explicit MediumTable(const float* table) : low_(table), high_(table + 16) {}
  Vec operator[](BitsVec index) const {
    return _mm256_blendv_ps(low_[index], high_[index], _mm256_castsi256_ps(_mm256_slli_epi32((__m256i)index, 27)));
  }

 private:
  SmallTable low_, high_;
};

// 16 values as tables of their first, second, third and fourth bytes, where 32 codes are looked up at a time.
class ByteTables {
 public:
  static constexpr size_t per_word = 32;
  explicit ByteTables(const float* table) {
    uint8_t bytes[4][16];
    for (size_t i = 0; i < 16; ++i)
      for (size_t byte = 0; byte < 4; ++byte) bytes[byte][i] = reinterpret_cast<const uint8_t*>(table + i)[byte];
    for (size_t byte = 0; byte < 4; ++byte)
      bytes_[byte] = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes[byte])));
  }

  // The place of lane `lane` of value `vector`, of the four that operator() gives, among the bytes of a word.
  static size_t place(size_t vector, size_t lane) { return 4 * vector + lane % 4 + lane / 4 * 16; }

  // The values of the lowest `bits` bits of every byte, from bit `shift` on.
  void operator()(const uint8_t* word, int shift, int bits, Vec (&values)[4]) const {
    const __m256i loaded = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(word));
    const __m256i codes = _mm256_and_si256(_mm256_srli_epi16(loaded, shift), _mm256_set1_epi8(char((1 << bits) - 1)));
    __m256i byte[4];
    for (size_t i = 0; i < 4; ++i) byte[i] = _mm256_shuffle_epi8(bytes_[i], codes);
    const __m256i low[2] = {_mm256_unpacklo_epi8(byte[0], byte[1]), _mm256_unpackhi_epi8(byte[0], byte[1])};
    const __m256i high[2] = {_mm256_unpacklo_epi8(byte[2], byte[3]), _mm256_unpackhi_epi8(byte[2], byte[3])};
    for (size_t i = 0; i < 2; ++i) {
      values[2 * i] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(low[i], high[i]));
      values[2 * i + 1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(low[i], high[i]));
    }
  }

 private:
  __m256i bytes_[4];
};
#define DEEPTHIN_BYTE_TABLES

// Every lane and those before it.
inline BitsVec running_sum(BitsVec v) {
  __m256i sum = (__m256i)v;
  sum = _mm256_add_epi32(sum, _mm256_slli_si256(sum, 4));
  sum = _mm256_add_epi32(sum, _mm256_slli_si256(sum, 8));
  // The halves were summed apart.
  const __m256i low = _mm256_permute2x128_si256(sum, sum, 0x08);
  return (BitsVec)_mm256_add_epi32(sum, _mm256_shuffle_epi32(low, 0xff));
}

inline BitsVec last_lane(BitsVec v) {
  return (BitsVec)_mm256_permutevar8x32_epi32((__m256i)v, _mm256_set1_epi32(LANES - 1));
}

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
