#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define LANES 4

namespace deepthin {
namespace {

typedef float32x4_t Vec;

inline Vec splat(float x) { return vdupq_n_f32(x); }

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
