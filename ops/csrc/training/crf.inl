// One frame of CTC-CRF; see training/steps.h. Included by kernels.inl, inside an unnamed namespace.

namespace training {

template <size_t N>
DEEPTHIN_INLINE void row_times(const float* from, const float* matrix, size_t units, size_t width, float* to) {
  Vec sums[N];
  DEEPTHIN_UNROLL for (size_t i = 0; i < N; ++i) sums[i] = splat(0.0f);
  for (size_t a = 0; a < units; ++a, matrix += width) {
    const Vec weight = splat(from[a]);
    DEEPTHIN_UNROLL for (size_t i = 0; i < N; ++i) sums[i] += weight * load(matrix + i * W);
  }
  DEEPTHIN_UNROLL for (size_t i = 0; i < N; ++i) store(to + i * W, sums[i]);
}

void crf_histories(const float* from, const float* table, size_t units, size_t width, float* to) {
  for (size_t b = 0; b < units; ++b, from += width, to += width, table += units * width) {
    size_t c = 0;
    for (; c + 5 * W <= width; c += 5 * W) row_times<5>(from, table + c, units, width, to + c);
    for (; c < width; c += W) row_times<1>(from, table + c, units, width, to + c);
  }
}

}  // namespace training
