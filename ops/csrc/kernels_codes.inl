// Codes as bytes, and products with the values that bytes stand for: included by kernels_tiled.inl; see kernels.inl.

typedef uint64_t WordsVec __attribute__((vector_size(LANES * sizeof(float))));

constexpr size_t kWords = W / 2;           // words in a vector, of eight codes each
constexpr size_t kCodesAtOnce = 8 * kWords;
constexpr size_t kUnpacked = 512;          // codes that are held at a time
static_assert(kUnpacked % kCodesAtOnce == 0 && kCodesAtOnce <= kMostCodesAtOnce);

// Codes of up to 8 bits, one after the other, into a byte each.
class Unpacked {
 public:
  explicit Unpacked(const PackedView& packed)
      : packed_(packed), inside_(packed.bytes < 8 ? 0 : (packed.bytes - 8) * 8 / packed.bits) {
    const uint64_t one = (uint64_t{1} << packed.bits) - 1, two = (uint64_t{1} << 2 * packed.bits) - 1;
    const uint64_t masks[3] = {(uint64_t{1} << 4 * packed.bits) - 1, two << 32 | two, (one << 16 | one) * 0x100000001u};
    for (int step = 0; step < 3; ++step) low_[step] = WordsVec{} + masks[step];
  }

  // Those of entries first .. first + count - 1; `out` has room for whole vectors.
  void operator()(size_t first, size_t count, uint8_t* out) const {
    const size_t bit = first * packed_.bits;
    // Eight codes take as many bytes as one takes bits: all words start at the same bit of a byte.
    const uint8_t* from = packed_.data + bit / 8;
    size_t i = 0;
    for (; i < count && first + i + kCodesAtOnce <= inside_; i += kCodesAtOnce, from += kWords * packed_.bits)
      put(words([=](size_t k) { return word(from + k * packed_.bits); }) >> bit % 8, out + i);
    for (; i < count; i += kCodesAtOnce)
      put(words([=](size_t k) { return word_at<false>(packed_, bit + (i + 8 * k) * packed_.bits); }), out + i);
  }

 private:
  static DEEPTHIN_INLINE uint64_t word(const uint8_t* from) {
    uint64_t found;
    __builtin_memcpy(&found, from, 8);
    return found;
  }

  template <typename At>
  static DEEPTHIN_INLINE WordsVec words(At at) {
#if LANES == 4
    return WordsVec{at(0), at(1)};
#elif LANES == 8
    return WordsVec{at(0), at(1), at(2), at(3)};
#else
    return WordsVec{at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)};
#endif
  }

  // Four of the eight codes go into the upper half of the word, of each half two into its upper half, and one of each two.
  DEEPTHIN_INLINE void put(WordsVec codes, uint8_t* out) const {
    DEEPTHIN_UNROLL
    for (int step = 0; step < 3; ++step) {
      const int half = 32 >> step, held = int(packed_.bits) << (2 - step);
      codes = (codes & low_[step]) | (codes << (half - held) & low_[step] << half);
    }
    __builtin_memcpy(out, &codes, sizeof codes);
  }

  PackedView packed_;
  size_t inside_;  // words of entries before this one end inside the stream
  WordsVec low_[3];
};

void unpack(const PackedView& packed, size_t first, size_t count, uint8_t* out) { Unpacked{packed}(first, count, out); }

// y[s] += sum over q of the value of code q of row s by x[q]. The load that finds a value spreads it over a vector too,
// so that looking it up takes next to nothing where the sums of S outputs keep the multiply-adds busy.
template <int S, int L>
DEEPTHIN_INLINE void sum_bytes(const uint8_t* codes, size_t row, const float* table, const float* x, size_t count,
                               bool accumulate, float* y) {
  Vec acc[S][L] = {};
  if (accumulate) {
    DEEPTHIN_UNROLL
    for (int s = 0; s < S; ++s)
      DEEPTHIN_UNROLL
      for (int l = 0; l < L; ++l) acc[s][l] = load(y + (s * L + l) * W);
  }
  for (size_t q = 0; q < count; ++q, x += L * W) {
    Vec value[L];
    DEEPTHIN_UNROLL
    for (int l = 0; l < L; ++l) value[l] = load(x + l * W);
    DEEPTHIN_UNROLL
    for (int s = 0; s < S; ++s) {
      const Vec weight = splat(table[codes[s * row + q]]);
      DEEPTHIN_UNROLL
      for (int l = 0; l < L; ++l) acc[s][l] += weight * value[l];
    }
  }
  DEEPTHIN_UNROLL
  for (int s = 0; s < S; ++s)
    DEEPTHIN_UNROLL
    for (int l = 0; l < L; ++l) store(y + (s * L + l) * W, acc[s][l]);
}

template <int L>
DEEPTHIN_INLINE void bytes_lanes_of(const uint8_t* codes, size_t row, const float* table, size_t outputs, size_t count,
                                    const float* x, bool accumulate, float* y) {
  switch (outputs) {
#define DEEPTHIN_CASE(S)                                            \
  case S:                                                           \
    sum_bytes<S, L>(codes, row, table, x, count, accumulate, y); \
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

void bytes_lanes(const uint8_t* codes, size_t row, const float* table, size_t outputs, size_t count, const float* x,
                 size_t planes, bool accumulate, float* y) {
  if (planes == 2)
    bytes_lanes_of<2>(codes, row, table, outputs, count, x, accumulate, y);
  else
    bytes_lanes_of<1>(codes, row, table, outputs, count, x, accumulate, y);
}

// Chains of sums of a sparse output: each multiply-add waits for the one before.
constexpr size_t kChains = 4;

// add(sum, i, x) for entries i = 0 .. count - 1 and what their gaps lead to from `x` on, `kStep` floats for each input, in
// turn for the sums. Returns what is behind the last.
template <size_t kStep, typename Sum, typename Add>
DEEPTHIN_INLINE const float* for_each_place(const uint8_t* gaps, bool small, size_t count, const float* x, Sum& sums,
                                            Add add) {
  size_t i = 0;
  // Gaps below 32: a product adds up each of eight bytes and those before it.
  for (; small && i + 8 <= count; i += 8) {
    uint64_t before;
    __builtin_memcpy(&before, gaps + i, 8);
    before *= 0x0101010101010101u;
    DEEPTHIN_UNROLL
    for (size_t u = 0; u < 8; ++u) add(sums[u % kChains], i + u, x + (before >> 8 * u & 255) * kStep + u * kStep);
    x += (before >> 56) * kStep + 8 * kStep;
  }
  for (; i < count; ++i) {
    x += gaps[i] * kStep;
    add(sums[i % kChains], i, x);
    x += kStep;
  }
  return x;
}

// take(c, sums) for outputs [first, last) with their sums, to which add(sum, value, x) has added every entry.
template <typename Sum, size_t kStep, typename Add, typename Take>
DEEPTHIN_INLINE void sum_codes(const CodedSparseView& m, size_t first, size_t last, const float* x, Add add, Take take) {
  const Unpacked gap(m.gaps), symbol(m.symbols);
  uint8_t gaps[kUnpacked], symbols[kUnpacked];
  size_t i = size_t(m.starts[first]), from = i, to = i;  // entries from .. to - 1 are unpacked
  for (size_t c = first; c < last; ++c) {
    Sum sums[kChains] = {};
    const float* at = x;
    for (const size_t end = size_t(m.starts[c + 1]); i < end;) {
      if (i == to) {
        from = i;
        to = least(i + kUnpacked, size_t(m.starts[last]));
        gap(from, to - from, gaps);
        symbol(from, to - from, symbols);
      }
      const size_t count = least(end, to) - i;
      const uint8_t* symbols_here = symbols + (i - from);
      at = for_each_place<kStep>(gaps + (i - from), m.gaps.bits <= 5, count, at, sums,
                                 [&](Sum& sum, size_t entry, const float* place) {
                                   add(sum, m.table[symbols_here[entry]], place);
                                 });
      i += count;
    }
    take(c, sums);
  }
}

void sparse_codes_row(const CodedSparseView& m, size_t first, size_t last, const float* x, float* y) {
  sum_codes<float, 1>(
      m, first, last, x, [](float& sum, float value, const float* place) { sum += value * *place; },
      [=](size_t c, const float(&sums)[kChains]) { y[c] = (sums[0] + sums[1]) + (sums[2] + sums[3]); });
}

// The sums of one output for the rows of L vectors.
template <int L>
struct LaneSums {
  Vec of[L];
  DEEPTHIN_INLINE void add(float value, const float* x) {
    const Vec spread = splat(value);
    DEEPTHIN_UNROLL
    for (int l = 0; l < L; ++l) of[l] += spread * load(x + l * W);
  }
};
template <int L>
DEEPTHIN_INLINE void store_sums(const LaneSums<L> (&sums)[kChains], float* y) {
  DEEPTHIN_UNROLL
  for (int l = 0; l < L; ++l) store(y + l * W, (sums[0].of[l] + sums[1].of[l]) + (sums[2].of[l] + sums[3].of[l]));
}

template <int L>
DEEPTHIN_INLINE void sparse_codes_lanes_of(const CodedSparseView& m, size_t first, size_t last, const float* x, float* y) {
  sum_codes<LaneSums<L>, L * W>(
      m, first, last, x, [](LaneSums<L>& sum, float value, const float* place) { sum.add(value, place); },
      [=](size_t c, const LaneSums<L>(&sums)[kChains]) { store_sums(sums, y + (c - first) * L * W); });
}

void sparse_codes_lanes(const CodedSparseView& m, size_t first, size_t last, const float* x, size_t planes, float* y) {
  if (planes == 2)
    sparse_codes_lanes_of<2>(m, first, last, x, y);
  else
    sparse_codes_lanes_of<1>(m, first, last, x, y);
}

template <int L, typename Index>
DEEPTHIN_INLINE void sparse_lanes_of(const SparseView& m, const Index* inputs, size_t first, size_t last, const float* x,
                                     float* y) {
  for (size_t c = first; c < last; ++c, y += L * W) {
    LaneSums<L> sums[kChains] = {};
    size_t i = size_t(m.starts[c]);
    const size_t end = size_t(m.starts[c + 1]);
    for (; i + kChains <= end; i += kChains) {
      DEEPTHIN_UNROLL
      for (size_t u = 0; u < kChains; ++u)
        sums[u].add(m.values[i + u], x + size_t(index_of<kChains>(inputs + i, u)) * L * W);
    }
    for (; i < end; ++i) sums[0].add(m.values[i], x + size_t(inputs[i]) * L * W);
    store_sums(sums, y);
  }
}

void sparse_lanes(const SparseView& m, size_t first, size_t last, const float* x, size_t planes, float* y) {
  if (planes == 2)
    m.narrow ? sparse_lanes_of<2>(m, m.narrow, first, last, x, y) : sparse_lanes_of<2>(m, m.wide, first, last, x, y);
  else
    m.narrow ? sparse_lanes_of<1>(m, m.narrow, first, last, x, y) : sparse_lanes_of<1>(m, m.wide, first, last, x, y);
}
