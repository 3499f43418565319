// One row times a matrix that is looked up or sparse: included by kernels_tiled.inl; see kernels.inl.
// There is no batch here to share the making of a weight, so that it is made where it is used and never stored.

// Lanes below `count`.
DEEPTHIN_INLINE Vec first_lanes(Vec v, size_t count) { return (Vec)((BitsVec)v & (BitsVec)(lane_numbers() < uint32_t(count))); }

// entries(i) gives the products of the W entries from i on, of which those behind the last one of the output are not
// counted; it is not asked for any behind `all`. The last product alone is one(i).
template <typename Entries, typename One>
DEEPTHIN_INLINE void sum_outputs(const int32_t* starts, size_t first, size_t last, size_t all, float* y, Entries entries,
                                 One one) {
  for (size_t c = first; c < last; ++c) {
    size_t i = size_t(starts[c]);
    const size_t end = size_t(starts[c + 1]);
    Vec sum[2] = {};
    for (; i + 2 * W <= end; i += 2 * W) {
      sum[0] += entries(i);
      sum[1] += entries(i + W);
    }
    if (i + W <= end) {
      sum[0] += entries(i);
      i += W;
    }
    float rest = 0.0f;
    // Entries of the next outputs may be read too, which spares a loop of a length that no processor foresees.
    if (i + W <= all)
      sum[1] += first_lanes(entries(i), end - i);
    else
      for (; i < end; ++i) rest += one(i);
    y[c] = total(sum[0] + sum[1]) + rest;
  }
}

template <typename Index>
DEEPTHIN_INLINE void sparse_row_of(const SparseView& m, const Index* inputs, size_t first, size_t last, const float* x,
                                   float* y) {
  sum_outputs(
      m.starts, first, last, m.count, y,
      [&](size_t i) { return load(m.values + i) * gather_at(x, inputs + i); },
      [&](size_t i) { return m.values[i] * x[inputs[i]]; });
}

void sparse_row(const SparseView& m, size_t first, size_t last, const float* x, float* y) {
  if (m.narrow)
    sparse_row_of(m, m.narrow, first, last, x, y);
  else
    sparse_row_of(m, m.wide, first, last, x, y);
}

// Bytes whose codes are looked up together, and what a table of every sum that a byte can stand for takes.
constexpr size_t kByteGroup = 16;
static_assert(kByteGroup * 256 == kByteTableFloats);

// sums[v] = what the inputs x[0 .. count-1] give where byte v holds their codes.
DEEPTHIN_INLINE void make_sums(const float* table, size_t bits, const float* x, size_t count, float* sums) {
  const size_t codes = size_t(1) << bits;
  float product[16];
  size_t size = codes;
  const auto products = [&](size_t i) {
    for (size_t k = 0; k < codes; ++k) product[k] = i < count ? x[i] * table[k] : 0.0f;
  };
  products(0);
  for (size_t k = 0; k < codes; ++k) sums[k] = product[k];
  for (size_t i = 1; size < 256; ++i, size *= codes) {
    products(i);
    for (size_t k = codes; k-- > 0;) {
      float* to = sums + k * size;
      if (size >= W)
        for (size_t v = 0; v < size; v += W) store(to + v, load(sums + v) + splat(product[k]));
      else
        for (size_t v = 0; v < size; ++v) to[v] = sums[v] + product[k];
    }
  }
}

void byte_codes_row(const CodedView& m, size_t first, size_t last, const float* x, float* y, float* sums) {
  const size_t each = 8 / m.bits;
  for (size_t c = first; c < last; ++c) y[c] = 0.0f;
  for (size_t byte = 0; byte < m.row; byte += kByteGroup) {
    const size_t bytes = least(kByteGroup, m.row - byte);
    for (size_t b = 0; b < bytes; ++b) {
      const size_t q = (byte + b) * each;
      make_sums(m.table, m.bits, x + q, least(each, m.Q - q), sums + b * 256);
    }
    const uint8_t* codes = m.indices + first * m.row + byte;
    for (size_t c = first; c < last; ++c, codes += m.row) {
      float sum[4] = {};
      size_t b = 0;
      for (; b + 8 <= bytes; b += 8) {
        const float* from = sums + b * 256;
        uint64_t word;
        __builtin_memcpy(&word, codes + b, sizeof word);
        DEEPTHIN_UNROLL
        for (size_t i = 0; i < 8; ++i) sum[i % 4] += from[i * 256 + (word >> 8 * i & 255)];
      }
      for (; b < bytes; ++b) sum[0] += sums[b * 256 + codes[b]];
      y[c] += (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
  }
}

template <typename Table>
DEEPTHIN_INLINE void codes_row_of(const CodedView& m, const Table& table, size_t first, size_t last, const float* x,
                                  float* y) {
  const Spread spread(uint32_t(m.bits));
  const size_t whole = m.Q / W * W;
  for (size_t c = first; c < last; ++c) {
    const PackedView codes{m.indices + c * m.row, (m.R - c) * m.row, m.bits};
    Vec sum[2] = {};
    size_t i = 0;
    for_each_code(codes, 0, whole, [&](size_t q, BitsVec code) { sum[i++ % 2] += table(code) * load(x + q); });
    Vec tail = splat(0.0f);
    if (whole < m.Q) {
      const Vec weights = table(codes_at<false>(codes, whole, spread));
      tail = first_lanes(weights, m.Q - whole) * load_part(x + whole, m.Q - whole);
    }
    y[c] = total(sum[0] + sum[1] + tail);
  }
}

// Codes of 8 bits.
void bytes_row(const CodedView& m, size_t first, size_t last, const float* x, float* y) {
  for (size_t c = first; c < last; ++c) {
    const uint8_t* codes = m.indices + c * m.row;
    Vec sum[2] = {};
    size_t q = 0;
    for (; q + 2 * W <= m.Q; q += 2 * W) {
      sum[0] += gather_at(m.table, codes + q) * load(x + q);
      sum[1] += gather_at(m.table, codes + q + W) * load(x + q + W);
    }
    float rest = 0.0f;
    for (; q < m.Q; ++q) rest += m.table[codes[q]] * x[q];
    y[c] = total(sum[0] + sum[1]) + rest;
  }
}

void codes_row(const CodedView& m, size_t first, size_t last, const float* x, float* y) {
  if (m.bits == 8) return bytes_row(m, first, last, x, y);
  with_table(m.table, m.bits, [&](const auto& table) { codes_row_of(m, table, first, last, x, y); });
}

#ifdef DEEPTHIN_BYTE_TABLES
// Codes of 2 or 4 bits: as many bytes of them at a time as a vector holds. `ordered` takes the inputs in the order in
// which they are met.
template <size_t kBits>
DEEPTHIN_INLINE void word_codes_row_of(const CodedView& m, size_t first, size_t last, const float* x, float* y,
                                       float* ordered) {
  const ByteTables table(m.table);
  constexpr size_t kBytes = ByteTables::per_word, kEach = 8 / kBits;
  const size_t whole = m.row / kBytes, rest = m.row - whole * kBytes;
  float* to = ordered;
  for (size_t byte = 0; byte < m.row; byte += kBytes)
    for (size_t code = 0; code < kEach; ++code)
      for (size_t vector = 0; vector < 4; ++vector)
        for (size_t lane = 0; lane < W; ++lane, ++to) {
          const size_t q = (byte + ByteTables::place(vector, lane)) * kEach + code;
          *to = q < m.Q ? x[q] : 0.0f;
        }
  for (size_t c = first; c < last; ++c) {
    const uint8_t* codes = m.indices + c * m.row;
    const float* from = ordered;
    Vec sum[4] = {};
    const auto add = [&](const uint8_t* word) {
      DEEPTHIN_UNROLL
      for (size_t code = 0; code < kEach; ++code, from += 4 * W) {
        Vec values[4];
        table(word, int(code * kBits), int(kBits), values);
        DEEPTHIN_UNROLL
        for (size_t i = 0; i < 4; ++i) sum[i] += values[i] * load(from + i * W);
      }
    };
    for (size_t word = 0; word < whole; ++word) add(codes + word * kBytes);
    if (rest) {
      uint8_t last_word[kBytes] = {};
      __builtin_memcpy(last_word, codes + whole * kBytes, rest);
      add(last_word);
    }
    y[c] = total((sum[0] + sum[1]) + (sum[2] + sum[3]));
  }
}

void word_codes_row(const CodedView& m, size_t first, size_t last, const float* x, float* y, float* ordered) {
  if (m.bits == 2)
    word_codes_row_of<2>(m, first, last, x, y, ordered);
  else
    word_codes_row_of<4>(m, first, last, x, y, ordered);
}
constexpr auto kWordCodes = word_codes_row;
#else
constexpr decltype(StoredKernels::word_codes_row) kWordCodes = nullptr;
#endif
