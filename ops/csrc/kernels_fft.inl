// The transforms of fft.h: included by kernels.inl; see there. A point is two vectors, the real parts and the imaginary.

struct Complex {
  Vec re, im;
};

DEEPTHIN_INLINE Complex load_point(const float* p) { return {load(p), load(p + W)}; }
DEEPTHIN_INLINE void store_point(float* p, Complex c) {
  store(p, c.re);
  store(p + W, c.im);
}
DEEPTHIN_INLINE Complex splat_point(const float* w) { return {splat(w[0]), splat(w[1])}; }
DEEPTHIN_INLINE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
DEEPTHIN_INLINE Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
DEEPTHIN_INLINE Complex operator*(Complex a, Complex b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
// a * conj(b)
DEEPTHIN_INLINE Complex unturned(Complex a, Complex b) {
  return {a.re * b.re + a.im * b.im, a.im * b.re - a.re * b.im};
}
DEEPTHIN_INLINE Complex times_i(Complex a) { return {-a.im, a.re}; }

// a becomes a + w * b, and b what is a - w * b: six multiply-adds.
DEEPTHIN_INLINE void butterfly(Complex& a, Complex& b, Complex w) {
  const Vec two = splat(2.0f);
  const Vec re = a.re + w.re * b.re - w.im * b.im, im = a.im + w.re * b.im + w.im * b.re;
  b = {two * a.re - re, two * a.im - im};
  a = {re, im};
}
// The same with i * w.
DEEPTHIN_INLINE void butterfly_i(Complex& a, Complex& b, Complex w) {
  const Vec two = splat(2.0f);
  const Vec re = a.re - w.re * b.im - w.im * b.re, im = a.im + w.re * b.re - w.im * b.im;
  b = {two * a.re - re, two * a.im - im};
  a = {re, im};
}
// Twice what they were made of.
DEEPTHIN_INLINE void unbutterfly(Complex& a, Complex& b, Complex w) {
  const Complex difference = a - b;
  a = a + b;
  b = unturned(difference, w);
}
DEEPTHIN_INLINE void unbutterfly_i(Complex& a, Complex& b, Complex w) {
  const Complex d = a - b;
  a = a + b;
  b = {d.im * w.re - d.re * w.im, -(d.re * w.re + d.im * w.im)};
}

// One butterfly of each radix; w[s - 1] is what value s is turned by. Children are in the order of two levels of 2.
template <size_t P>
struct Radix;

template <>
struct Radix<2> {
  static DEEPTHIN_INLINE void split(Complex (&a)[2], const Complex (&w)[1]) { butterfly(a[0], a[1], w[0]); }
  static DEEPTHIN_INLINE void join(Complex (&a)[2], const Complex (&w)[1]) { unbutterfly(a[0], a[1], w[0]); }
};

template <>
struct Radix<3> {
  static DEEPTHIN_INLINE void split(Complex (&a)[3], const Complex (&w)[2]) { transform(a, a[1] * w[0], a[2] * w[1], 1.0f); }
  static DEEPTHIN_INLINE void join(Complex (&a)[3], const Complex (&w)[2]) {
    transform(a, a[1], a[2], -1.0f);
    a[1] = unturned(a[1], w[0]);
    a[2] = unturned(a[2], w[1]);
  }

 private:
  static DEEPTHIN_INLINE void transform(Complex (&a)[3], Complex b, Complex c, float sign) {
    const Vec half = splat(0.5f), sine = splat(sign * 0.86602540378443865f);
    const Complex sum = b + c, d = b - c;
    const Complex middle = {a[0].re - half * sum.re, a[0].im - half * sum.im};
    a[0] = a[0] + sum;
    a[1] = {middle.re - sine * d.im, middle.im + sine * d.re};
    a[2] = {middle.re + sine * d.im, middle.im - sine * d.re};
  }
};

template <>
struct Radix<4> {
  static DEEPTHIN_INLINE void split(Complex (&a)[4], const Complex (&w)[3]) {
    butterfly(a[0], a[2], w[1]);
    butterfly(a[1], a[3], w[1]);
    butterfly(a[0], a[1], w[0]);
    butterfly_i(a[2], a[3], w[0]);
  }
  static DEEPTHIN_INLINE void join(Complex (&a)[4], const Complex (&w)[3]) {
    const Complex p0 = a[0] + a[1], p1 = a[0] - a[1], m0 = a[2] + a[3], m1 = times_i(a[2] - a[3]);
    a[0] = p0 + m0;
    a[1] = unturned(p1 - m1, w[0]);
    a[2] = unturned(p0 - m0, w[1]);
    a[3] = unturned(p1 + m1, w[2]);
  }
};

template <>
struct Radix<5> {
  static DEEPTHIN_INLINE void split(Complex (&a)[5], const Complex (&w)[4]) {
    DEEPTHIN_UNROLL
    for (size_t s = 1; s < 5; ++s) a[s] = a[s] * w[s - 1];
    transform(a, 1.0f);
  }
  static DEEPTHIN_INLINE void join(Complex (&a)[5], const Complex (&w)[4]) {
    transform(a, -1.0f);
    DEEPTHIN_UNROLL
    for (size_t s = 1; s < 5; ++s) a[s] = unturned(a[s], w[s - 1]);
  }

 private:
  static DEEPTHIN_INLINE void transform(Complex (&a)[5], float sign) {
    const Vec c1 = splat(0.30901699437494742f), c2 = splat(-0.80901699437494742f);
    const Vec s1 = splat(sign * 0.95105651629515357f), s2 = splat(sign * 0.58778525229247313f);
    const Complex sum1 = a[1] + a[4], d1 = a[1] - a[4], sum2 = a[2] + a[3], d2 = a[2] - a[3];
    const Complex even1 = {a[0].re + c1 * sum1.re + c2 * sum2.re, a[0].im + c1 * sum1.im + c2 * sum2.im};
    const Complex even2 = {a[0].re + c2 * sum1.re + c1 * sum2.re, a[0].im + c2 * sum1.im + c1 * sum2.im};
    const Complex odd1 = {-(s1 * d1.im + s2 * d2.im), s1 * d1.re + s2 * d2.re};
    const Complex odd2 = {s1 * d2.im - s2 * d1.im, s2 * d1.re - s1 * d2.re};
    a[0] = a[0] + sum1 + sum2;
    a[1] = even1 + odd1;
    a[2] = even2 + odd2;
    a[3] = even2 - odd2;
    a[4] = even1 - odd1;
  }
};

template <size_t P, bool kBack>
DEEPTHIN_INLINE void fft_nodes_of(const FftLevel& level, size_t first, size_t count, float* z) {
  const size_t step = level.length / P * 2 * W;
  const float* w = level.twiddles + first * 2 * (P - 1);
  for (size_t node = 0; node < count; ++node, w += 2 * (P - 1), z += P * step) {
    Complex turn[P - 1];
    DEEPTHIN_UNROLL
    for (size_t s = 0; s + 1 < P; ++s) turn[s] = splat_point(w + 2 * s);
    for (float* a = z; a < z + step; a += 2 * W) {
      Complex v[P];
      DEEPTHIN_UNROLL
      for (size_t s = 0; s < P; ++s) v[s] = load_point(a + s * step);
      if (kBack)
        Radix<P>::join(v, turn);
      else
        Radix<P>::split(v, turn);
      DEEPTHIN_UNROLL
      for (size_t s = 0; s < P; ++s) store_point(a + s * step, v[s]);
    }
  }
}

// One level of `count` nodes that lie one behind the other, of which the first is number `first`.
template <bool kBack>
DEEPTHIN_INLINE void fft_nodes(const FftLevel& level, size_t first, size_t count, float* z) {
  switch (level.radix) {
    case 2:
      return fft_nodes_of<2, kBack>(level, first, count, z);
    case 3:
      return fft_nodes_of<3, kBack>(level, first, count, z);
    case 4:
      return fft_nodes_of<4, kBack>(level, first, count, z);
    case 5:
      return fft_nodes_of<5, kBack>(level, first, count, z);
  }
}

// Nodes of so many points at most are taken through all their levels while they are in the first-level cache.
constexpr size_t kFftInside = 16384 / (2 * sizeof(Vec));

// The levels [level, last) of one node whose points lie at z.
void fft_split(const FftView& f, size_t level, size_t last, size_t node, float* z) {
  size_t count = 1;
  for (; level < last && f.level[level].length <= kFftInside; ++level) {
    fft_nodes<false>(f.level[level], node, count, z);
    node *= f.level[level].radix;
    count *= f.level[level].radix;
  }
  if (level == last || count > 1) return;
  fft_nodes<false>(f.level[level], node, 1, z);
  const size_t radix = f.level[level].radix, step = f.level[level].length / radix * 2 * W;
  for (size_t i = 0; i < radix; ++i) fft_split(f, level + 1, last, node * radix + i, z + i * step);
}

// The same levels back; `middle(node, count, offset)` makes the nodes of level `last`, `offset` floats from z, before.
template <typename Middle>
void fft_join(const FftView& f, size_t level, size_t last, size_t node, size_t offset, float* z, const Middle& middle) {
  const FftLevel& here = f.level[level];
  if (level < last && here.length > kFftInside) {
    const size_t step = here.length / here.radix * 2 * W;
    for (size_t i = 0; i < here.radix; ++i)
      fft_join(f, level + 1, last, node * here.radix + i, offset + i * step, z, middle);
    return fft_nodes<true>(here, node, 1, z + offset);
  }
  size_t count = 1;
  for (size_t i = level; i < last; ++i) count *= f.level[i].radix;
  middle(node * count, count, offset);
  for (size_t i = last; i-- > level;) {
    count /= f.level[i].radix;
    fft_nodes<true>(f.level[i], node * count, count, z + offset);
  }
}

void fft_rows_split(const FftView& f, const float* const* rows, size_t count, float* z) {
  const size_t whole = least(count, f.length), rest = count - whole;
  const float* second[W];
  for (size_t i = 0; i < W; ++i) second[i] = rows[i] + whole;
  load_lanes(whole, rows, z, 2 * W);
  load_lanes(rest, second, z + W, 2 * W);
  for (size_t i = whole; i < f.length; ++i) store(z + i * 2 * W, splat(0.0f));
  for (size_t i = rest; i < f.length; ++i) store(z + i * 2 * W + W, splat(0.0f));
  fft_split(f, 0, f.levels - 1, 0, z);
}

// The last level, the product with the spectrum and the way back.
DEEPTHIN_INLINE void fft_rows_back(const FftView& f, size_t rank, const float* z, float* out) {
  const size_t last = f.levels - 1;
  const float* spectrum = f.spectrum + rank * f.spectrum_floats;
  fft_join(f, 0, last, 0, 0, out, [&](size_t node, size_t count, size_t offset) {
    const float *w = f.level[last].twiddles + node * 6, *s = spectrum + node * 8;
    for (size_t i = 0; i < count; ++i, w += 6, s += 8, offset += 8 * W) {
      const Complex turn[3] = {splat_point(w), splat_point(w + 2), splat_point(w + 4)};
      Complex v[4];
      DEEPTHIN_UNROLL
      for (size_t k = 0; k < 4; ++k) v[k] = load_point(z + offset + k * 2 * W);
      Radix<4>::split(v, turn);
      DEEPTHIN_UNROLL
      for (size_t k = 0; k < 4; ++k) v[k] = v[k] * splat_point(s + 2 * k);
      Radix<4>::join(v, turn);
      DEEPTHIN_UNROLL
      for (size_t k = 0; k < 4; ++k) store_point(out + offset + k * 2 * W, v[k]);
    }
  });
}

void fft_rows_join(const FftView& f, const PlanView& p, size_t rank, const float* z, float* work, float* offsets,
                   size_t planes, size_t plane) {
  fft_rows_back(f, rank, z, work);
  const size_t step = planes * W, stride = phase_stride(p) * step;
  for (size_t index = 0, k = 0; index < p.offsets(); ++k) {
    float* to = offsets + k * step + plane * W;
    for (const size_t end = least(index + p.n, p.offsets()); index < end; ++index, to += stride)
      store(to, load(work + (index < f.length ? index * 2 * W : (index - f.length) * 2 * W + W)));
  }
}

// The levels across the lanes, once a group is transposed: kNodes nodes lie one behind the other. Twiddles of the node at
// an odd place are i times those of its neighbour.
template <size_t kNodes, bool kBack>
DEEPTHIN_INLINE void fft_across(Complex (&v)[W], const float* w) {
  constexpr size_t kHalf = W / (2 * kNodes), kTwiddles = kNodes > 1 ? kNodes / 2 : 1;
  if constexpr (kBack && kHalf > 1) fft_across<2 * kNodes, kBack>(v, w + kTwiddles * 2 * W);
  DEEPTHIN_UNROLL
  for (size_t node = 0; node < kNodes; ++node) {
    const Complex turn = load_point(w + node / 2 * 2 * W);
    DEEPTHIN_UNROLL
    for (size_t i = 0; i < kHalf; ++i) {
      Complex &a = v[node * 2 * kHalf + i], &b = v[node * 2 * kHalf + kHalf + i];
      if (kBack)
        node % 2 ? unbutterfly_i(a, b, turn) : unbutterfly(a, b, turn);
      else
        node % 2 ? butterfly_i(a, b, turn) : butterfly(a, b, turn);
    }
  }
  if constexpr (!kBack && kHalf > 1) fft_across<2 * kNodes, kBack>(v, w + kTwiddles * 2 * W);
}

DEEPTHIN_INLINE void transpose_points(Complex (&v)[W]) {
  Vec part[W];
  DEEPTHIN_UNROLL
  for (size_t i = 0; i < W; ++i) part[i] = v[i].re;
  transpose(part);
  DEEPTHIN_UNROLL
  for (size_t i = 0; i < W; ++i) v[i].re = part[i];
  DEEPTHIN_UNROLL
  for (size_t i = 0; i < W; ++i) part[i] = v[i].im;
  transpose(part);
  DEEPTHIN_UNROLL
  for (size_t i = 0; i < W; ++i) v[i].im = part[i];
}

void fft_row_split(const FftView& f, const float* x, size_t count, float* z) {
  for (size_t i = 0; i * 2 * W < f.buffer; ++i)
    for (size_t part = 0; part < 2; ++part) {
      const size_t from = i * W + part * f.length, left = from < count && i < f.points ? count - from : 0;
      float* to = z + (2 * i + part) * W;
      if (left >= W)
        store(to, load(x + from));
      else
        store(to, left ? load_part(x + from, left) : splat(0.0f));
    }
  fft_split(f, 0, f.levels, 0, z);
}

// The levels across the lanes, the product and the way back.
void fft_row_join(const FftView& f, size_t rank, const float* z, float* work, float* offsets, size_t count) {
  const float *spectrum = f.spectrum + rank * f.spectrum_floats, *w = f.across;
  for (size_t point = 0; point < f.points; point += W, w += W * W, spectrum += W * 2 * W) {
    const float* from = z + point * 2 * W;
    float* to = work + point * 2 * W;
    Complex v[W];
    DEEPTHIN_UNROLL
    for (size_t i = 0; i < W; ++i) v[i] = load_point(from + i * 2 * W);
    transpose_points(v);
    fft_across<1, false>(v, w);
    DEEPTHIN_UNROLL
    for (size_t i = 0; i < W; ++i) v[i] = v[i] * load_point(spectrum + i * 2 * W);
    fft_across<1, true>(v, w);
    transpose_points(v);
    DEEPTHIN_UNROLL
    for (size_t i = 0; i < W; ++i) store_point(to + i * 2 * W, v[i]);
  }
  fft_join(f, 0, f.levels, 0, 0, work, [](size_t, size_t, size_t) {});
  const size_t whole = least(count, f.length);
  for (size_t i = 0; i < whole; i += W) store(offsets + i, load(work + 2 * i));
  for (size_t i = 0; i + whole < count; i += W) store(offsets + whole + i, load(work + 2 * i + W));
}
