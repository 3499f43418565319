// One frame of CTC; see training/steps.h. Included by kernels.inl, inside an unnamed namespace.

namespace training {

// exp(v) for v <= 0, relative error below 2e-7: 2^k * 2^f with |f| <= 1/2 and 2^f by its Taylor series.
DEEPTHIN_INLINE Vec exponential(Vec v) {
  const Vec limit = splat(-87.0f);
  v = v < limit ? limit : v;
  const Vec t = v * splat(1.44269504088896341f);
  const Vec round = splat(12582912.0f);  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Vec shifted = t + round;
  const Vec f = t - (shifted - round);
  Vec e = splat(1.5403530393381608e-4f);
  e = e * f + splat(1.3333558146428443e-3f);
  e = e * f + splat(9.6181291076284772e-3f);
  e = e * f + splat(5.5504108664821580e-2f);
  e = e * f + splat(2.4022650695910072e-1f);
  e = e * f + splat(6.9314718055994531e-1f);
  e = e * f + splat(1.0f);
  return (Vec)((BitsVec)e + ((BitsVec)shifted << 23));
}

// log(v) for 1 <= v <= 3, absolute error below 2e-7: log(3) / 2 + 2 atanh((v - sqrt(3)) / (v + sqrt(3))) by its series.
DEEPTHIN_INLINE Vec logarithm(Vec v) {
  const Vec root = splat(1.7320508075688772f);
  const Vec z = (v - root) / (v + root), square = z * z;
  Vec sum = splat(2.0f / 11);
  sum = sum * square + splat(2.0f / 9);
  sum = sum * square + splat(2.0f / 7);
  sum = sum * square + splat(2.0f / 5);
  sum = sum * square + splat(2.0f / 3);
  sum = sum * square + splat(2.0f);
  return sum * z + splat(0.54930614433405485f);
}

DEEPTHIN_INLINE Vec greater(Vec a, Vec b) { return a > b ? a : b; }

DEEPTHIN_INLINE float largest(Vec v) {
  float best = v[0];
  for (size_t i = 1; i < W; ++i) best = v[i] > best ? v[i] : best;
  return best;
}

template <int D>
DEEPTHIN_INLINE float states_of(const float* from, const float* skip, const float* emitted, float shift, size_t count,
                                float* to) {
  Vec best = splat(-3e38f);
  for (size_t s = 0; s < count; s += W) {
    const Vec stay = load(from + s), next = load(from + s + D), over = load(from + s + 2 * D) + load(skip + s);
    const Vec top = greater(greater(stay, next), over);
    const Vec sum = exponential(stay - top) + exponential(next - top) + exponential(over - top);
    const Vec v = top + logarithm(sum) + load(emitted + s) - splat(shift);
    store(to + s, v);
    best = greater(best, v);
  }
  return largest(best);
}

float ctc_states(const float* from, int direction, const float* skip, const float* emitted, float shift, size_t count,
                 float* to) {
  return direction < 0 ? states_of<-1>(from, skip, emitted, shift, count, to)
                       : states_of<1>(from, skip, emitted, shift, count, to);
}

float ctc_posteriors(const float* forward, const float* backward, const float* emitted, size_t count, float* to) {
  Vec best = splat(-3e38f);
  for (size_t s = 0; s < count; s += W) {
    const Vec v = load(forward + s) + load(backward + s) - load(emitted + s);
    store(to + s, v);
    best = greater(best, v);
  }
  const Vec top = splat(largest(best));
  Vec sum = splat(0.0f);
  for (size_t s = 0; s < count; s += W) {
    const Vec v = exponential(load(to + s) - top);
    store(to + s, v);
    sum += v;
  }
  float total = 0.0f;
  for (size_t i = 0; i < W; ++i) total += sum[i];
  return total;
}

}  // namespace training
