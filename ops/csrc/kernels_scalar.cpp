// The instruction set that every processor of the architecture has. Four lanes: the compiler lowers them to what it may.
#include "gates.h"
#include "kernels.h"
#include "stored_kernels.h"
#include "training/steps.h"

#define LANES 4

namespace deepthin {
namespace {

typedef float Vec __attribute__((vector_size(16)));
typedef uint32_t BitsVec __attribute__((vector_size(16)));

inline Vec splat(float x) { return Vec{x, x, x, x}; }

// Of finite numbers: the exponent is moved by a product, which subnormal numbers survive.
inline Vec load(const uint16_t* half) {
  const BitsVec bits{half[0], half[1], half[2], half[3]};
  return (Vec)((BitsVec)((Vec)((bits & 0x7fffu) << 13) * splat(0x1p112f)) | (bits & 0x8000u) << 16);
}

inline Vec gather(const float* table, BitsVec index) {
  return Vec{table[index[0]], table[index[1]], table[index[2]], table[index[3]]};
}

// Turns a word with the numbers of four lanes into one number a lane.
class Spread {
 public:
  static constexpr size_t per_word = 4;
  explicit Spread(uint32_t bits) : shift_{0, bits, 2 * bits, 3 * bits}, mask_((1u << bits) - 1) {}
  BitsVec operator()(const uint64_t (&word)[1]) const {
    const uint32_t low = uint32_t(word[0]);
    return (BitsVec{low, low, low, low} >> shift_) & mask_;
  }

 private:
  BitsVec shift_;
  uint32_t mask_;
};

inline BitsVec high_product(BitsVec a, uint32_t b) {
  for (int i = 0; i < LANES; ++i) a[i] = uint32_t((uint64_t{a[i]} * b) >> 32);
  return a;
}

class SmallTable {
 public:
  explicit SmallTable(const float* table) : table_(table) {}
  Vec operator[](BitsVec index) const { return gather(table_, index); }

 private:
  const float* table_;
};
using TinyTable = SmallTable;
using MediumTable = SmallTable;

// Every lane and those before it.
inline BitsVec running_sum(BitsVec v) {
  for (int i = 1; i < LANES; ++i) v[i] += v[i - 1];
  return v;
}

inline BitsVec last_lane(BitsVec v) { return BitsVec{} + v[LANES - 1]; }

inline void transpose(Vec (&v)[LANES]) {
  const Vec a = v[0], b = v[1], c = v[2], d = v[3];
  v[0] = Vec{a[0], b[0], c[0], d[0]};
  v[1] = Vec{a[1], b[1], c[1], d[1]};
  v[2] = Vec{a[2], b[2], c[2], d[2]};
  v[3] = Vec{a[3], b[3], c[3], d[3]};
}

#include "kernels.inl"

constexpr Kernels kKernels = DEEPTHIN_KERNEL_TABLE("scalar");

}  // namespace

const Kernels* scalar_kernels() { return &kKernels; }

}  // namespace deepthin
