// See training/steps.h. Included by kernels.inl, inside an unnamed namespace.

namespace training {

using deepthin::training::kBlock;
using deepthin::training::kTile;
using deepthin::training::Layout;
using deepthin::training::Panels;
using deepthin::training::Phase;

constexpr size_t P = 2 * W;

// A gradient at an activation's output `y`, taken back through it.
DEEPTHIN_INLINE Vec derivative(Vec dy, Vec y, Activation activation) {
  const Vec zero = splat(0.0f), one = splat(1.0f);
  switch (activation) {
    case Activation::kNone:
      return dy;
    case Activation::kRelu:
      return y > zero ? dy : zero;
    case Activation::kClippedRelu: {
      const Vec inner = y > zero ? dy : zero;
      return y < splat(20.0f) ? inner : zero;
    }
    case Activation::kSigmoid:
      return dy * (y * (one - y));
    case Activation::kTanh:
      return dy * (one - y * y);
  }
  return dy;
}

void load_panel(const float* const* rows, size_t width, float* panel) {
  for (size_t half = 0; half < 2; ++half, rows += W, panel += W) {
    for (size_t q = 0; q < width; q += W) {
      const size_t count = least(W, width - q);
      Vec block[W];
      if (count == W) {
        DEEPTHIN_UNROLL
        for (size_t i = 0; i < W; ++i) block[i] = load(rows[i] + q);
      } else {
        for (size_t i = 0; i < W; ++i) block[i] = load_part(rows[i] + q, count);
      }
      transpose(block);
      DEEPTHIN_UNROLL
      for (size_t i = 0; i < W; ++i)
        if (i < count) store(panel + (q + i) * P, block[i]);
    }
  }
}

template <Activation A>
DEEPTHIN_INLINE void load_gradient_of(const float* const* rows, const float* const* y, size_t width, float* bias,
                                      float* panel) {
  for (size_t half = 0; half < 2; ++half, rows += W, y += W, panel += W) {
    for (size_t c = 0; c < width; c += W) {
      const size_t count = least(W, width - c);
      Vec block[W];
      Vec sum = splat(0.0f);
      if (count == W) {
        DEEPTHIN_UNROLL
        for (size_t i = 0; i < W; ++i) {
          block[i] = load(rows[i] + c);
          if (A != Activation::kNone) block[i] = derivative(block[i], load(y[i] + c), A);
          sum += block[i];
        }
        store(bias + c, load(bias + c) + sum);
      } else {
        for (size_t i = 0; i < W; ++i) {
          block[i] = load_part(rows[i] + c, count);
          if (A != Activation::kNone) block[i] = derivative(block[i], load_part(y[i] + c, count), A);
          sum += block[i];
        }
        store_part(bias + c, load_part(bias + c, count) + sum, count);
      }
      transpose(block);
      DEEPTHIN_UNROLL
      for (size_t i = 0; i < W; ++i)
        if (i < count) store(panel + (c + i) * P, block[i]);
    }
  }
}

void load_gradient(const float* const* rows, const float* const* y, Activation activation, size_t width, float* bias,
                   float* panel) {
  switch (activation) {
    case Activation::kNone:
      return load_gradient_of<Activation::kNone>(rows, y, width, bias, panel);
    case Activation::kRelu:
      return load_gradient_of<Activation::kRelu>(rows, y, width, bias, panel);
    case Activation::kClippedRelu:
      return load_gradient_of<Activation::kClippedRelu>(rows, y, width, bias, panel);
    case Activation::kSigmoid:
      return load_gradient_of<Activation::kSigmoid>(rows, y, width, bias, panel);
    case Activation::kTanh:
      return load_gradient_of<Activation::kTanh>(rows, y, width, bias, panel);
  }
}

void store_panel(const float* panel, size_t width, const float* bias, Activation activation, float* const* rows,
                 size_t count) {
  for (size_t half = 0; half * W < count; ++half, rows += W, panel += W) {
    const size_t valid = least(W, count - half * W);
    for (size_t c = 0; c < width; c += W) {
      const size_t part = least(W, width - c);
      Vec block[W];
      DEEPTHIN_UNROLL
      for (size_t i = 0; i < W; ++i) block[i] = load(panel + least(c + i, width - 1) * P);
      transpose(block);
      const Vec added = !bias ? splat(0.0f) : part == W ? load(bias + c) : load_part(bias + c, part);
      DEEPTHIN_UNROLL
      for (size_t i = 0; i < W; ++i) {
        if (i >= valid) break;
        const Vec v = activate(block[i] + added, activation);
        if (part == W)
          store(rows[i] + c, v);
        else
          store_part(rows[i] + c, v, part);
      }
    }
  }
}

// acc[v] += sum over i < A of taps[i] * x[v + i], x index by index: the loads serve up to A taps.
template <int A>
DEEPTHIN_INLINE void slide(Vec (&acc)[kBlock], const float* taps, const float* x) {
  Vec tap[A];
  DEEPTHIN_UNROLL
  for (int i = 0; i < A; ++i) tap[i] = splat(taps[i]);
  DEEPTHIN_UNROLL
  for (int u = 0; u < int(kBlock) + A - 1; ++u) {
    const Vec value = load(x + u * P);
    DEEPTHIN_UNROLL
    for (int i = 0; i < A; ++i) {
      const int v = u - i;
      if (v >= 0 && v < int(kBlock)) acc[v] += tap[i] * value;
    }
  }
}

DEEPTHIN_INLINE void slide_all(Vec (&acc)[kBlock], const float* taps, size_t count, const float* x) {
  size_t t = 0;
  for (; t + 4 <= count; t += 4, x += 4 * P) slide<4>(acc, taps + t, x);
  if (count - t == 1) slide<1>(acc, taps + t, x);
  if (count - t == 2) slide<2>(acc, taps + t, x);
  if (count - t == 3) slide<3>(acc, taps + t, x);
}

void correlate(const Layout& layout, const float* taps, const float* x, float* offsets) {
  const size_t n = layout.n, total = layout.offsets();
  for (size_t d = 0; d < total; d += kBlock) {
    // The taps that meet an input for any of these offsets.
    const size_t reach = d + kBlock - 1, first = reach < n - 1 ? n - 1 - reach : 0, last = least(n, total - d);
    const float* input = x + (ptrdiff_t(d + first) - ptrdiff_t(n - 1)) * ptrdiff_t(P);
    for (size_t half = 0; half < 2; ++half) {
      Vec acc[kBlock] = {};
      slide_all(acc, taps + first, last - first, input + half * W);
      const size_t valid = least(kBlock, total - d);
      DEEPTHIN_UNROLL
      for (size_t v = 0; v < kBlock; ++v)
        if (v < valid) store(offsets + (d + v) * P + half * W, acc[v]);
    }
  }
}

void spread(const Layout& layout, const float* taps, const float* offsets, bool accumulate, float* dx) {
  for (size_t q = 0; q < layout.Q; q += kBlock) {
    const size_t valid = least(kBlock, layout.Q - q);
    for (size_t half = 0; half < 2; ++half) {
      float* target = dx + q * P + half * W;
      Vec acc[kBlock] = {};
      slide_all(acc, taps, layout.n, offsets + q * P + half * W);
      DEEPTHIN_UNROLL
      for (size_t v = 0; v < kBlock; ++v)
        if (v < valid) store(target + v * P, accumulate ? load(target + v * P) + acc[v] : acc[v]);
    }
  }
}

template <int T>
DEEPTHIN_INLINE void taps_of(size_t Q, const float* x, const float* offsets, float* sums) {
  constexpr int kInputs = 4;
  Vec acc[T] = {};
  for (size_t half = 0; half < 2; ++half) {
    const float *in = x + half * W, *c = offsets + half * W;
    for (size_t q = 0; q < Q; q += kInputs, in += kInputs * P, c += kInputs * P) {
      Vec value[kInputs];
      DEEPTHIN_UNROLL
      for (int i = 0; i < kInputs; ++i) value[i] = load(in + i * P);
      DEEPTHIN_UNROLL
      for (int u = 0; u < kInputs + T - 1; ++u) {
        const Vec gradient = load(c + u * P);
        DEEPTHIN_UNROLL
        for (int i = 0; i < kInputs; ++i) {
          const int t = u - i;
          if (t >= 0 && t < T) acc[t] += value[i] * gradient;
        }
      }
    }
  }
  DEEPTHIN_UNROLL
  for (int t = 0; t < T; ++t) store(sums + t * W, load(sums + t * W) + acc[t]);
}

void taps_gradient(const Layout& layout, const float* x, const float* offsets, float* sums) {
  const size_t parts = chunks_of(layout.n, kBlock);
  for (size_t part = 0; part < parts; ++part) {
    const size_t t = layout.n * part / parts;
    const float* c = offsets + t * P;
    switch (layout.n * (part + 1) / parts - t) {
#define DEEPTHIN_CASE(T)                        \
  case T:                                       \
    taps_of<T>(layout.Q, x, c, sums + t * W); \
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

// to[s] += sum over k of packed[k][s] * from[k], both panels at the given steps between indices.
template <int S>
DEEPTHIN_INLINE void tile_of(const float* packed, const float* from, size_t from_step, size_t count, bool accumulate,
                             float* to, size_t to_step) {
  Vec acc[S][2] = {};
  if (accumulate) {
    DEEPTHIN_UNROLL
    for (int s = 0; s < S; ++s) {
      acc[s][0] = load(to + s * to_step);
      acc[s][1] = load(to + s * to_step + W);
    }
  }
  for (size_t k = 0; k < count; ++k, from += from_step, packed += S) {
    const Vec low = load(from), high = load(from + W);
    DEEPTHIN_UNROLL
    for (int s = 0; s < S; ++s) {
      const Vec factor = splat(packed[s]);
      acc[s][0] += factor * low;
      acc[s][1] += factor * high;
    }
  }
  DEEPTHIN_UNROLL
  for (int s = 0; s < S; ++s) {
    store(to + s * to_step, acc[s][0]);
    store(to + s * to_step + W, acc[s][1]);
  }
}

// All `rows` of a small matrix product, in tiles; the weights of a tile serve every panel before the next is read.
DEEPTHIN_INLINE void product(const float* packed, const Panels& from, size_t from_first, size_t from_step,
                             size_t count, bool accumulate, const Panels& to, size_t to_first, size_t to_step,
                             size_t rows) {
  const size_t tiles = chunks_of(rows, kTile);
  for (size_t i = 0; i < tiles; ++i) {
    const size_t row = rows * i / tiles, size = rows * (i + 1) / tiles - row;
    for (size_t panel = 0; panel < from.count; ++panel) {
      const float* source = from.data + panel * from.stride + from_first * P;
      float* target = to.data + panel * to.stride + (to_first + row * to_step) * P;
      switch (size) {
#define DEEPTHIN_CASE(S)                                                                        \
  case S:                                                                                       \
    tile_of<S>(packed, source, from_step * P, count, accumulate, target, to_step * P); \
    break;
        DEEPTHIN_CASE(1)
        DEEPTHIN_CASE(2)
        DEEPTHIN_CASE(3)
        DEEPTHIN_CASE(4)
        DEEPTHIN_CASE(5)
        DEEPTHIN_CASE(6)
#undef DEEPTHIN_CASE
      }
    }
    packed += size * count;
  }
}

void band(const Layout& layout, const float* packed, const Panels& offsets, bool accumulate, const Panels& y) {
  for (size_t i = 0; i < layout.phase_count; ++i) {
    const Phase& p = layout.phases[i];
    product(packed + p.packed, offsets, p.phase, layout.n, p.count, accumulate, y, p.first, layout.period, p.outputs);
  }
}

void band_transposed(const Layout& layout, const float* packed, const Panels& dy, const Panels& offsets) {
  for (size_t i = 0; i < layout.phase_count; ++i) {
    const Phase& p = layout.phases[i];
    product(packed + p.packed, dy, p.first, layout.period, p.outputs, false, offsets, p.phase, layout.n, p.count);
  }
}

// gradient[s][k] += sum over rows of dy[row][s] * turned[row][k], for L vectors of k.
template <int S, int L>
DEEPTHIN_INLINE void gradient_of(const Panels& dy, size_t first, size_t step, const float* turned, size_t padded,
                                 float* gradient) {
  Vec acc[S][L] = {};
  for (size_t panel = 0; panel < dy.count; ++panel) {
    const float* g = dy.data + panel * dy.stride + first * P;
    for (size_t row = 0; row < P; ++row, ++g, turned += padded) {
      Vec value[L];
      DEEPTHIN_UNROLL
      for (int l = 0; l < L; ++l) value[l] = load(turned + l * W);
      DEEPTHIN_UNROLL
      for (int s = 0; s < S; ++s) {
        const Vec factor = splat(g[s * step]);
        DEEPTHIN_UNROLL
        for (int l = 0; l < L; ++l) acc[s][l] += factor * value[l];
      }
    }
  }
  DEEPTHIN_UNROLL
  for (int s = 0; s < S; ++s)
    DEEPTHIN_UNROLL
    for (int l = 0; l < L; ++l) {
      float* target = gradient + s * padded + l * W;
      store(target, load(target) + acc[s][l]);
    }
}

void band_gradient(const Layout& layout, const Panels& dy, const Panels& offsets, float* turned, float* gradient) {
  const size_t step = layout.period * P;
  for (size_t i = 0; i < layout.phase_count; ++i) {
    const Phase& p = layout.phases[i];
    for (size_t panel = 0; panel < offsets.count; ++panel) {
      for (size_t half = 0; half < 2; ++half) {
        const float* from = offsets.data + panel * offsets.stride + p.phase * P + half * W;
        float* to = turned + (panel * P + half * W) * p.padded;
        for (size_t k = 0; k < p.padded; k += W) {
          Vec block[W];
          DEEPTHIN_UNROLL
          for (size_t l = 0; l < W; ++l)
            block[l] = k + l < p.count ? load(from + (k + l) * layout.n * P) : splat(0.0f);
          transpose(block);
          DEEPTHIN_UNROLL
          for (size_t l = 0; l < W; ++l) store(to + l * p.padded + k, block[l]);
        }
      }
    }
    const size_t tiles = chunks_of(p.outputs, kTile);
    for (size_t tile = 0; tile < tiles; ++tile) {
      const size_t s = p.outputs * tile / tiles, size = p.outputs * (tile + 1) / tiles - s;
      const size_t first = p.first + s * layout.period;
      float* target = gradient + p.gradient + s * p.padded;
      for (size_t k = 0; k < p.padded; k += 2 * W) {
        const bool pair = k + 2 * W <= p.padded;
        switch (size) {
#define DEEPTHIN_CASE(S)                                                              \
  case S:                                                                             \
    if (pair)                                                                         \
      gradient_of<S, 2>(dy, first, step, turned + k, p.padded, target + k); \
    else                                                                              \
      gradient_of<S, 1>(dy, first, step, turned + k, p.padded, target + k); \
    break;
          DEEPTHIN_CASE(1)
          DEEPTHIN_CASE(2)
          DEEPTHIN_CASE(3)
          DEEPTHIN_CASE(4)
          DEEPTHIN_CASE(5)
          DEEPTHIN_CASE(6)
#undef DEEPTHIN_CASE
        }
      }
    }
  }
}

constexpr deepthin::training::Steps kSteps = {load_panel, load_gradient, store_panel,     correlate,
                                              spread,     taps_gradient, band,            band_transposed,
                                              band_gradient, ctc_states,    ctc_posteriors, crf_histories};

}  // namespace training
