// Vectors for kernels.inl: loading, storing and the activations. Included inside an unnamed namespace; see there.

typedef float UnalignedVec __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

constexpr size_t W = LANES;

#define DEEPTHIN_INLINE inline __attribute__((always_inline))
#ifdef __clang__
#define DEEPTHIN_UNROLL _Pragma("unroll")
#else
#define DEEPTHIN_UNROLL _Pragma("GCC unroll 16")
#endif

DEEPTHIN_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
DEEPTHIN_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
DEEPTHIN_INLINE Vec load_part(const float* p, size_t count) {
  float part[W] = {};
  __builtin_memcpy(part, p, count * sizeof(float));
  return load(part);
}
DEEPTHIN_INLINE void store_part(float* p, Vec v, size_t count) {
  float part[W];
  store(part, v);
  __builtin_memcpy(p, part, count * sizeof(float));
}

DEEPTHIN_INLINE size_t least(size_t a, size_t b) { return a < b ? a : b; }

// 1 / (1 + exp(-v)), absolute error below 2e-7: exp(-v) = 2^k * 2^f with |f| <= 1/2 and 2^f by its Taylor series.
DEEPTHIN_INLINE Vec sigmoid(Vec v) {
  const Vec limit = splat(40.0f), one = splat(1.0f);
  v = v > limit ? limit : v;
  v = v < -limit ? -limit : v;
  const Vec t = v * splat(-1.44269504088896341f);
  const Vec round = splat(12582912.0f);  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Vec shifted = t + round;
  const Vec f = t - (shifted - round);
  Vec e = splat(1.5403530393381608e-4f);
  e = e * f + splat(1.3333558146428443e-3f);
  e = e * f + splat(9.6181291076284772e-3f);
  e = e * f + splat(5.5504108664821580e-2f);
  e = e * f + splat(2.4022650695910072e-1f);
  e = e * f + splat(6.9314718055994531e-1f);
  e = e * f + one;
  const BitsVec power = ((BitsVec)shifted << 23) + (BitsVec)one;
  return one / (one + e * (Vec)power);
}

DEEPTHIN_INLINE Vec hyperbolic_tangent(Vec v) {
  const Vec s = sigmoid(v + v);
  return s + s - splat(1.0f);
}

DEEPTHIN_INLINE Vec activate(Vec v, Activation activation) {
  const Vec zero = splat(0.0f);
  switch (activation) {
    case Activation::kNone:
      return v;
    case Activation::kRelu:
      return v < zero ? zero : v;
    case Activation::kClippedRelu: {
      const Vec top = splat(20.0f);
      v = v < zero ? zero : v;
      return v > top ? top : v;
    }
    case Activation::kSigmoid:
      return sigmoid(v);
    case Activation::kTanh:
      return hyperbolic_tangent(v);
  }
  return v;
}
