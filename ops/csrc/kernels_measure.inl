// What the processor can do at most: included by kernels.inl; see there.

// Chains of `rounds` multiply-adds, enough of them for the two that a core can finish in every cycle.
float multiply_adds(size_t rounds) {
  constexpr size_t kChains = kMeasuredChains;
  Vec chain[kChains];
  for (size_t i = 0; i < kChains; ++i) chain[i] = splat(float(i));
  const Vec factor = splat(0.999f), term = splat(0.001f);
  for (size_t round = 0; round < rounds; ++round) {
    DEEPTHIN_UNROLL
    for (size_t i = 0; i < kChains; ++i) chain[i] = chain[i] * factor + term;
  }
  float sum = 0.0f;
  for (size_t i = 0; i < kChains; ++i) sum += chain[i][0];
  return sum;
}

// The sum of values that are read one after the other, 4 * lanes of them at a time.
float read_values(const float* from, size_t count) {
  Vec sum[4] = {};
  for (size_t i = 0; i + 4 * W <= count; i += 4 * W) {
    DEEPTHIN_UNROLL
    for (size_t u = 0; u < 4; ++u) sum[u] += load(from + i + u * W);
  }
  const Vec total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  return total[0];
}
