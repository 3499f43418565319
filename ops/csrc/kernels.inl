// The kernels, written once over a vector type. Each unit includes this after defining, in an unnamed namespace,
// LANES, Vec, splat() and transpose(). Nothing here may instantiate an inline template of the standard library: a copy
// compiled for a wide instruction set could be the one that the linker keeps for every unit.

#include "vector.inl"
#include "training/crf.inl"
#include "training/ctc.inl"
#include "training/steps.inl"

// acc[v] += sum over i < A of w[i * step] * x[v + i], in vectors of x: every load of x serves up to A taps, so that the
// multiply-adds and not the loads are what takes time.
template <int A>
DEEPTHIN_INLINE void add_taps(Vec (&acc)[kBlock], const float* w, size_t step, const float* x) {
  Vec tap[A];
  DEEPTHIN_UNROLL
  for (int i = 0; i < A; ++i) tap[i] = splat(w[i * step]);
  DEEPTHIN_UNROLL
  for (int u = 0; u < int(kBlock) + A - 1; ++u) {
    const Vec value = load(x + u * W);
    DEEPTHIN_UNROLL
    for (int i = 0; i < A; ++i) {
      const int v = u - i;
      if (v >= 0 && v < int(kBlock)) acc[v] += tap[i] * value;
    }
  }
}

// The taps that meet a non-zero input for any of `width` offsets from index `first` on.
struct TapRange {
  size_t first, last;
};
DEEPTHIN_INLINE TapRange taps_of(const PlanView& p, size_t first, size_t width) {
  const size_t reach = first + width - 1;
  return {reach < p.n - 1 ? p.n - 1 - reach : 0, least(p.n, p.offsets() - first)};
}

void correlate_row(const PlanView& p, size_t rank, const float* x, float* offsets, size_t first, size_t last) {
  const float* taps = p.taps + rank * p.taps_stride;
  for (size_t index = first; index < last; index += kBlock * W) {
    const TapRange range = taps_of(p, index, kBlock * W);
    size_t t = range.first / W * W;
    const size_t end = (range.last + W - 1) / W * W;
    Vec acc[kBlock] = {};
    // Taps W apart read the same shifted vectors of x one vector on: they share the loads.
    for (; t + 4 * W <= end; t += 4 * W)
      for (size_t b = 0; b < W; ++b) add_taps<4>(acc, taps + t + b, W, x + index + t + b);
    const size_t rest = (end - t) / W;
    for (size_t b = 0; b < W && rest; ++b) {
      const float *w = taps + t + b, *shifted = x + index + t + b;
      if (rest == 1) add_taps<1>(acc, w, W, shifted);
      if (rest == 2) add_taps<2>(acc, w, W, shifted);
      if (rest == 3) add_taps<3>(acc, w, W, shifted);
    }
    DEEPTHIN_UNROLL
    for (size_t v = 0; v < kBlock; ++v) store(offsets + index + v * W, acc[v]);
  }
}

constexpr size_t kAhead = 2048;  // bytes; by itself the processor asks for factors beyond its second-level cache too late

// T is the type that the factors are packed in.
template <int S, typename T>
DEEPTHIN_INLINE const T* band_row_chunk(const T* packed, const float* offsets, size_t stride, size_t n, size_t ranks,
                                        size_t count, float* y) {
  Vec acc[S] = {};
  for (size_t j = 0; j < ranks; ++j) {
    const float* c = offsets + j * stride;
    for (size_t k = 0; k < count; ++k, c += n, packed += S * W) {
      const Vec value = load(c);
      DEEPTHIN_UNROLL
      for (size_t line = 0; line < S * W * sizeof(T); line += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(packed) + line + kAhead);
      DEEPTHIN_UNROLL
      for (int s = 0; s < S; ++s) acc[s] += load(packed + s * W) * value;
    }
  }
  DEEPTHIN_UNROLL
  for (int s = 0; s < S; ++s) store(y + s * W, acc[s]);
  return packed;
}

template <typename T>
DEEPTHIN_INLINE void band_row_of(const PlanView& p, const T* all, const float* offsets, size_t stride, float* packed_y,
                                 size_t first, size_t last) {
  for (size_t g = first; g < last; ++g) {
    const T* packed = all + p.packed_offset[g];
    const size_t total = p.packed_output[g + 1] - p.packed_output[g];
    if (!total) continue;
    const size_t count = (p.packed_offset[g + 1] - p.packed_offset[g]) / (total * p.r * W);
    const size_t chunks = chunks_of(total, kRowChunk);
    const float* c = offsets + g * W;
    float* y = packed_y + p.packed_output[g] * W;
    for (size_t i = 0; i < chunks; ++i) {
      const size_t size = total * (i + 1) / chunks - total * i / chunks;
      switch (size) {
#define DEEPTHIN_CASE(S) \
  case S:                \
    packed = band_row_chunk<S>(packed, c, stride, p.n, p.r, count, y); \
    break;
        DEEPTHIN_CASE(1)
        DEEPTHIN_CASE(2)
        DEEPTHIN_CASE(3)
        DEEPTHIN_CASE(4)
        DEEPTHIN_CASE(5)
        DEEPTHIN_CASE(6)
        DEEPTHIN_CASE(7)
        DEEPTHIN_CASE(8)
        DEEPTHIN_CASE(9)
        DEEPTHIN_CASE(10)
        DEEPTHIN_CASE(11)
        DEEPTHIN_CASE(12)
#undef DEEPTHIN_CASE
      }
      y += size * W;
    }
  }
}

void band_row(const PlanView& p, const float* offsets, size_t stride, float* packed_y, size_t first, size_t last) {
  if (p.packed_half)
    band_row_of(p, p.packed_half, offsets, stride, packed_y, first, last);
  else
    band_row_of(p, p.packed, offsets, stride, packed_y, first, last);
}

void finish_row(const PlanView& p, const float* packed_y, const Epilogue& epilogue, float* y) {
  for (size_t c = 0; c < p.R; c += W) {
    const size_t count = least(W, p.R - c);
    float gathered[W] = {};
    for (size_t i = 0; i < count; ++i) gathered[i] = packed_y[p.position[c + i]];
    Vec v = load(gathered);
    if (count == W) {
      if (epilogue.bias) v += load(epilogue.bias + c);
      store(y + c, activate(v, epilogue.activation));
    } else {
      if (epilogue.bias) v += load_part(epilogue.bias + c, count);
      store_part(y + c, activate(v, epilogue.activation), count);
    }
  }
}

void load_lanes(size_t count, const float* const* rows, float* x, size_t step) {
  size_t q = 0;
  for (; q + W <= count; q += W) {
    Vec block[W];
    DEEPTHIN_UNROLL
    for (size_t i = 0; i < W; ++i) block[i] = load(rows[i] + q);
    transpose(block);
    DEEPTHIN_UNROLL
    for (size_t i = 0; i < W; ++i) store(x + (q + i) * step, block[i]);
  }
  for (; q < count; ++q)
    for (size_t i = 0; i < W; ++i) x[q * step + i] = rows[i][q];
}

void correlate_lanes(const PlanView& p, size_t rank, const float* x, float* offsets, size_t planes, size_t plane,
                     size_t first, size_t last) {
  const float* taps = p.taps + rank * p.taps_stride;
  const size_t stride = phase_stride(p), step = planes * W;
  offsets += plane * W;
  for (size_t index = first; index < last; index += kBlock) {
    const TapRange range = taps_of(p, index, kBlock);
    size_t t = range.first;
    // x starts with kBlock vectors of zeros.
    const float* input = x + (kBlock + index + t - (p.n - 1)) * W;
    Vec acc[kBlock] = {};
    for (; t + 4 <= range.last; t += 4, input += 4 * W) add_taps<4>(acc, taps + t, 1, input);
    const size_t rest = range.last - t;
    if (rest == 1) add_taps<1>(acc, taps + t, 1, input);
    if (rest == 2) add_taps<2>(acc, taps + t, 1, input);
    if (rest == 3) add_taps<3>(acc, taps + t, 1, input);
    size_t phase = index % p.n, k = index / p.n;
    const size_t valid = least(kBlock, p.offsets() - index);
    DEEPTHIN_UNROLL
    for (size_t v = 0; v < kBlock; ++v) {
      if (v < valid) store(offsets + (phase * stride + k) * step, acc[v]);
      if (++phase == p.n) phase = 0, ++k;
    }
  }
}

// S outputs, L planes: y[s][l] += sum over k of factor[k][s] * value[k][l]; the factors of neighbouring outputs lie
// `factor_step` apart.
template <int S, int L>
DEEPTHIN_INLINE void sum_lanes(const float* factors, size_t row_stride, size_t factor_step, const float* values,
                               size_t count, bool accumulate, float* y, size_t y_step) {
  Vec acc[S][L] = {};
  if (accumulate) {
    DEEPTHIN_UNROLL
    for (int s = 0; s < S; ++s)
      DEEPTHIN_UNROLL
      for (int l = 0; l < L; ++l) acc[s][l] = load(y + s * y_step + l * W);
  }
  for (size_t k = 0; k < count; ++k, values += L * W, factors += row_stride) {
    Vec value[L];
    DEEPTHIN_UNROLL
    for (int l = 0; l < L; ++l) value[l] = load(values + l * W);
    DEEPTHIN_UNROLL
    for (int s = 0; s < S; ++s) {
      const Vec factor = splat(factors[s * factor_step]);
      DEEPTHIN_UNROLL
      for (int l = 0; l < L; ++l) acc[s][l] += factor * value[l];
    }
  }
  DEEPTHIN_UNROLL
  for (int s = 0; s < S; ++s)
    DEEPTHIN_UNROLL
    for (int l = 0; l < L; ++l) store(y + s * y_step + l * W, acc[s][l]);
}

template <int L>
DEEPTHIN_INLINE void band_lanes_of(const PlanView& p, size_t rank, const float* offsets, float* unpacked, float* y,
                                   size_t first, size_t last) {
  constexpr size_t kAtMost = L == 1 ? 8 : 6;
  const size_t stride = phase_stride(p), y_step = p.period * L * W;
  for (size_t g = first; g < last; ++g) {
    const size_t total = p.packed_output[g + 1] - p.packed_output[g];
    if (!total) continue;
    const size_t rows = (p.packed_offset[g + 1] - p.packed_offset[g]) / (total * p.r * W);
    const size_t chunks = chunks_of(total, kRowChunk);
    const float* packed = p.packed + p.packed_offset[g];
    if (p.packed_half) {
      const uint16_t* half = p.packed_half + p.packed_offset[g];
      for (size_t i = 0; i < p.packed_offset[g + 1] - p.packed_offset[g]; i += W) store(unpacked + i, load(half + i));
      packed = unpacked;
    }
    for (size_t i = 0; i < chunks; ++i) {
      const size_t s0 = total * i / chunks, size = total * (i + 1) / chunks - s0;
      // All phases of the group before the next chunk: its factors are read once, in the order they lie.
      for (size_t lane = 0; lane < W && g * W + lane < p.n; ++lane) {
        const size_t phase = g * W + lane;
        if (p.first_output[phase] < 0) continue;
        const size_t c0 = size_t(p.first_output[phase]) + s0 * p.period;
        if (c0 >= p.R) continue;
        const size_t outputs = least(size, (p.R - c0 + p.period - 1) / p.period);
        const size_t count = (p.offsets() - phase + p.n - 1) / p.n, parts = chunks_of(outputs, kAtMost);
        for (size_t part = 0; part < parts; ++part) {
          const size_t from = outputs * part / parts;
          const float* factors = packed + (rank * rows * size + from) * W + lane;
          const float* c = offsets + phase * stride * L * W;
          float* target = y + c0 * L * W + from * y_step;
          switch (outputs * (part + 1) / parts - from) {
#define DEEPTHIN_CASE(S)                                                         \
  case S:                                                                        \
    sum_lanes<S, L>(factors, size * W, W, c, count, rank != 0, target, y_step); \
    break;
            DEEPTHIN_CASE(1)
            DEEPTHIN_CASE(2)
            DEEPTHIN_CASE(3)
            DEEPTHIN_CASE(4)
            DEEPTHIN_CASE(5)
            DEEPTHIN_CASE(6)
            DEEPTHIN_CASE(7)
            DEEPTHIN_CASE(8)
#undef DEEPTHIN_CASE
          }
        }
      }
      packed += p.r * rows * size * W;
    }
  }
}

void band_lanes(const PlanView& p, size_t rank, const float* offsets, size_t planes, float* unpacked, float* y,
                size_t first, size_t last) {
  if (planes == 2)
    band_lanes_of<2>(p, rank, offsets, unpacked, y, first, last);
  else
    band_lanes_of<1>(p, rank, offsets, unpacked, y, first, last);
}

// Outputs that share a phase are dot products of the same offsets with rows of Xf that lie a fixed number apart.
template <int L>
DEEPTHIN_INLINE void narrow_lanes_of(const PlanView& p, size_t rank, const float* offsets, float* y, size_t first,
                                     size_t last) {
  constexpr size_t kAtMost = L == 1 ? 8 : 6;
  const size_t y_step = p.period * L * W, factor_step = p.period * p.Q / p.n;
  for (size_t phase = 0; phase < p.n; ++phase) {
    if (p.first_output[phase] < 0) continue;
    const size_t c0 = size_t(p.first_output[phase]), outputs = least(last, chunks_of(p.R - c0, p.period));
    const size_t count = chunks_of(p.offsets() - phase, p.n);
    const float* c = offsets + phase * phase_stride(p) * L * W;
    for (size_t s = first; s < outputs; s += kAtMost) {
      const size_t output = c0 + s * p.period;
      const float* factors = p.ranks + rank * p.m + output * p.Q / p.n;
      float* target = y + output * L * W;
      switch (least(kAtMost, outputs - s)) {
#define DEEPTHIN_CASE(S)                                                           \
  case S:                                                                          \
    sum_lanes<S, L>(factors, 1, factor_step, c, count, rank != 0, target, y_step); \
    break;
        DEEPTHIN_CASE(1)
        DEEPTHIN_CASE(2)
        DEEPTHIN_CASE(3)
        DEEPTHIN_CASE(4)
        DEEPTHIN_CASE(5)
        DEEPTHIN_CASE(6)
        DEEPTHIN_CASE(7)
        DEEPTHIN_CASE(8)
#undef DEEPTHIN_CASE
      }
    }
  }
}

void narrow_lanes(const PlanView& p, size_t rank, const float* offsets, size_t planes, float* y, size_t first,
                  size_t last) {
  if (planes == 2)
    narrow_lanes_of<2>(p, rank, offsets, y, first, last);
  else
    narrow_lanes_of<1>(p, rank, offsets, y, first, last);
}

void store_lanes(size_t outputs, const float* y, size_t step, const Epilogue& epilogue, float* const* rows,
                 size_t count) {
  for (size_t c = 0; c < outputs; c += W) {
    const size_t width = least(W, outputs - c);
    Vec block[W];
    DEEPTHIN_UNROLL
    for (size_t i = 0; i < W; ++i) block[i] = load(y + least(c + i, outputs - 1) * step);
    transpose(block);
    const Vec bias = !epilogue.bias    ? splat(0.0f)
                     : width == W ? load(epilogue.bias + c)
                                  : load_part(epilogue.bias + c, width);
    DEEPTHIN_UNROLL
    for (size_t i = 0; i < W; ++i) {
      if (i >= count) break;
      const Vec v = activate(block[i] + bias, epilogue.activation);
      if (width == W)
        store(rows[i] + c, v);
      else
        store_part(rows[i] + c, v, width);
    }
  }
}

void finish(float* y, size_t count, const Epilogue& epilogue) {
  if (!epilogue.bias && epilogue.activation == Activation::kNone) return;
  for (size_t c = 0; c < count; c += W) {
    const size_t width = least(W, count - c);
    Vec v = load_part(y + c, width);
    if (epilogue.bias) v += load_part(epilogue.bias + c, width);
    store_part(y + c, activate(v, epilogue.activation), width);
  }
}

DEEPTHIN_INLINE float dot(const float* a, const float* b, size_t count) {
  Vec sum0 = splat(0.0f), sum1 = sum0;
  size_t i = 0;
  for (; i + 2 * W <= count; i += 2 * W) {
    sum0 += load(a + i) * load(b + i);
    sum1 += load(a + i + W) * load(b + i + W);
  }
  for (; i + W <= count; i += W) sum0 += load(a + i) * load(b + i);
  sum0 += sum1;
  float total = 0.0f;
  DEEPTHIN_UNROLL
  for (size_t l = 0; l < W; ++l) total += sum0[l];
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

void narrow_row(const PlanView& p, const float* phases, const Epilogue& epilogue, float* y, size_t first, size_t last) {
  const size_t stride = phase_stride(p);
  for (size_t c = first; c < last; ++c) {
    const size_t row = c * p.Q / p.n, phase = p.n - 1 - (c * p.Q - row * p.n), count = chunks_of(p.offsets() - phase, p.n);
    float sum = 0.0f;
    for (size_t j = 0; j < p.r; ++j) sum += dot(p.ranks + j * p.m + row, phases + (j * p.n + phase) * stride, count);
    y[c] = sum;
  }
  finish(y + first, last - first, {epilogue.bias ? epilogue.bias + first : nullptr, epilogue.activation});
}

void direct(const PlanView& p, const float* x, const Epilogue& epilogue, float* y, size_t first, size_t last) {
  for (size_t c = first; c < last; ++c) {
    float sum = epilogue.bias ? epilogue.bias[c] : 0.0f;
    const size_t begin = c * p.Q, end = begin + p.Q;
    for (size_t k = begin; k < end;) {
      const size_t row = k / p.n, t = k - row * p.n, count = least(p.n - t, end - k);
      for (size_t j = 0; j < p.r; ++j)
        sum += p.Xf[row * p.r + j] * dot(p.Wf + j * p.n + t, x + (k - begin), count);
      k += count;
    }
    y[c] = sum;
  }
  finish(y + first, last - first, {nullptr, epilogue.activation});
}

#include "kernels_fft.inl"
#include "kernels_gates.inl"
#include "kernels_measure.inl"
#include "kernels_tiled.inl"

#define DEEPTHIN_KERNEL_TABLE(name)                                                                                \
  {                                                                                                                \
    name, LANES, &training::kSteps, &kGates, &kStored, correlate_row, band_row, finish_row, narrow_row,            \
        load_lanes, correlate_lanes, band_lanes, narrow_lanes, store_lanes, fft_rows_split, fft_rows_join,         \
        fft_row_split, fft_row_join, direct, multiply_adds, read_values, finish                                                              \
  }
