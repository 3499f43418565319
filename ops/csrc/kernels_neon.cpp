#include "gates.h"
#include "kernels.h"
#include "stored_kernels.h"
#include "training/steps.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define LANES 4

namespace deepthin {
namespace {

typedef float32x4_t Vec;
typedef uint32_t BitsVec __attribute__((vector_size(16)));

inline Vec splat(float x) { return vdupq_n_f32(x); }

inline Vec load(const uint16_t* half) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half))); }

inline Vec gather(const float* table, BitsVec index) {
  return Vec{table[index[0]], table[index[1]], table[index[2]], table[index[3]]};
}

// Turns a word with the numbers of four lanes into one number a lane.
class Spread {
 public:
  static constexpr size_t per_word = 4;
  explicit Spread(uint32_t bits) : shift_{0, bits, 2 * bits, 3 * bits}, mask_((1u << bits) - 1) {}
  BitsVec operator()(const uint64_t (&word)[1]) const {
    return ((BitsVec)vdupq_n_u32(uint32_t(word[0])) >> shift_) & mask_;
  }

 private:
  BitsVec shift_;
  uint32_t mask_;
};

inline BitsVec high_product(BitsVec a, uint32_t b) {
  const uint32x4_t v = (uint32x4_t)a;
  const uint64x2_t low = vmull_n_u32(vget_low_u32(v), b), high = vmull_n_u32(vget_high_u32(v), b);
  return (BitsVec)vcombine_u32(vshrn_n_u64(low, 32), vshrn_n_u64(high, 32));
}

class SmallTable {
 public:
  explicit SmallTable(const float* table) {
    for (int i = 0; i < 4; ++i) table_.val[i] = vreinterpretq_u8_f32(vld1q_f32(table + 4 * i));
  }
  Vec operator[](BitsVec index) const {
    // The four bytes of value i are bytes 4 * i .. 4 * i + 3 of the table.
    const BitsVec bytes = index * 0x04040404u + 0x03020100u;
    return vreinterpretq_f32_u8(vqtbl4q_u8(table_, (uint8x16_t)bytes));
  }

 private:
  uint8x16x4_t table_;
};
using TinyTable = SmallTable;

class MediumTable {
 public:
  explicit MediumTable(const float* table) : low_(table), high_(table + 16) {}
  Vec operator[](BitsVec index) const {
    const uint32x4_t above = vcgtq_u32((uint32x4_t)index, vdupq_n_u32(15));
    return vbslq_f32(above, high_[index & 15], low_[index & 15]);
  }

 private:
  SmallTable low_, high_;
};

// Every lane and those before it.
inline BitsVec running_sum(BitsVec v) {
  const uint32x4_t zero = vdupq_n_u32(0);
  uint32x4_t sum = (uint32x4_t)v;
  sum = vaddq_u32(sum, vextq_u32(zero, sum, 3));
  return (BitsVec)vaddq_u32(sum, vextq_u32(zero, sum, 2));
}

inline BitsVec last_lane(BitsVec v) { return (BitsVec)vdupq_laneq_u32((uint32x4_t)v, LANES - 1); }

inline void transpose(Vec (&v)[LANES]) {
  const float32x4x2_t a = vtrnq_f32(v[0], v[1]), b = vtrnq_f32(v[2], v[3]);
  v[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
  v[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
  v[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
  v[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

#include "kernels.inl"

constexpr Kernels kKernels = DEEPTHIN_KERNEL_TABLE("neon");

}  // namespace

const Kernels* neon_kernels() { return &kKernels; }

}  // namespace deepthin
#else
const deepthin::Kernels* deepthin::neon_kernels() { return nullptr; }
#endif
