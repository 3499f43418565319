// Kernels for matrices that are looked up, computed or sparse: included by kernels.inl; see there.

typedef uint32_t UnalignedBits __attribute__((vector_size(LANES * sizeof(uint32_t)), aligned(4), may_alias));

DEEPTHIN_INLINE BitsVec load_bits(const uint32_t* p) { return *reinterpret_cast<const UnalignedBits*>(p); }
DEEPTHIN_INLINE void store_bits(uint32_t* p, BitsVec v) { *reinterpret_cast<UnalignedBits*>(p) = v; }

// 0, 1, 2 ... by lane.
DEEPTHIN_INLINE BitsVec lane_numbers() {
  uint32_t lane[W];
  for (uint32_t i = 0; i < W; ++i) lane[i] = i;
  return load_bits(lane);
}

// index[i], of N that are there. One load brings several: what they lead to are loads too, of which a core does two in a
// cycle.
template <size_t N, typename Index>
DEEPTHIN_INLINE Index index_of(const Index* index, size_t i) {
  constexpr size_t kBits = 8 * sizeof(Index), kEach = N < 64 / kBits ? N : 64 / kBits;
  uint64_t word = 0;
  __builtin_memcpy(&word, index + i / kEach * kEach, kEach * sizeof(Index));
  return Index(word >> i % kEach * kBits);
}

// table[index[0]], table[index[1]] ... of indices in memory, which need not pass through a vector.
template <typename Index>
DEEPTHIN_INLINE Vec gather_at(const float* table, const Index* index) {
#if LANES <= 8
  const auto at = [=](size_t i) { return table[index_of<W>(index, i)]; };
#endif
#if LANES == 4
  return Vec{at(0), at(1), at(2), at(3)};
#elif LANES == 8
  return Vec{at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)};
#else
  typedef Index Indices __attribute__((vector_size(LANES * sizeof(Index)), aligned(1), may_alias));
  return gather(table, __builtin_convertvector(*reinterpret_cast<const Indices*>(index), BitsVec));
#endif
}

// The stream from bit `bit` on: 57 bits at least, and all 64 where a byte starts there.
template <bool kInside>
DEEPTHIN_INLINE uint64_t word_at(const PackedView& p, size_t bit) {
  const size_t byte = bit / 8;
  uint64_t word = 0;
  if (kInside || byte + 8 <= p.bytes)
    __builtin_memcpy(&word, p.data + byte, 8);
  else if (byte < p.bytes)
    __builtin_memcpy(&word, p.data + byte, p.bytes - byte);
  return word >> bit % 8;
}

// Eight numbers of up to 8 bits always lie within one word: those of 8 bits start where a byte does.
template <bool kInside>
DEEPTHIN_INLINE BitsVec codes_at(const PackedView& p, size_t entry, const Spread& spread) {
  uint64_t word[W / Spread::per_word];
  DEEPTHIN_UNROLL
  for (size_t i = 0; i < W / Spread::per_word; ++i) word[i] = word_at<kInside>(p, (entry + i * Spread::per_word) * p.bits);
  return spread(word);
}

template <typename Take>
DEEPTHIN_INLINE void for_each_code(PackedView p, size_t first, size_t count, Take take) {
  const Spread spread(uint32_t(p.bits));
  // Words of entries before this one end inside the stream.
  const size_t inside = p.bytes < 8 ? 0 : (p.bytes - 8) * 8 / p.bits;
  size_t i = 0;
  for (; i < count && first + i + W <= inside; i += W) take(i, codes_at<true>(p, first + i, spread));
  for (; i < count; i += W) take(i, codes_at<false>(p, first + i, spread));
}

// Calls use(table) with what looks codes of so many bits up.
template <typename Use>
DEEPTHIN_INLINE void with_table(const float* values, size_t bits, Use use) {
  if (bits <= 3) {
    const TinyTable tiny(values);
    use([&](BitsVec code) { return tiny[code]; });
  } else if (bits == 4) {
    const SmallTable small(values);
    use([&](BitsVec code) { return small[code]; });
  } else if (bits == 5) {
    const MediumTable medium(values);
    use([&](BitsVec code) { return medium[code]; });
  } else {
    use([=](BitsVec code) { return gather(values, code); });
  }
}

void look_up(const PackedView& p, size_t first, size_t count, const float* values, float* out) {
  if (p.bits == 8 && first + round_up(count, W) <= p.bytes)
    for (size_t i = 0; i < count; i += W) store(out + i, gather_at(values, p.data + first + i));
  else
    with_table(values, p.bits, [&](const auto& table) {
      for_each_code(p, first, count, [&](size_t i, BitsVec code) { store(out + i, table(code)); });
    });
}

DEEPTHIN_INLINE BitsVec mixed(BitsVec h) {
  h ^= h >> 16;
  h *= 0x85ebca6bu;
  h ^= h >> 13;
  h *= 0xc2b2ae35u;
  return h ^ h >> 16;
}

void hash(const HashedView& m, size_t first, size_t count, float* out) {
  const BitsVec lane = lane_numbers();
  for (size_t i = 0; i < count; i += W) {
    const BitsVec hashed = mixed((lane + uint32_t(first + i)) ^ m.key);
    const BitsVec negative = mixed(hashed ^ 0x85ebca6bu) << 31;
    store(out + i, (Vec)((BitsVec)gather(m.values, high_product(hashed, m.K)) ^ negative));
  }
}

DEEPTHIN_INLINE BitsVec permuted(const ShuffledView& m, BitsVec k) {
  const uint32_t mask = (1u << m.half) - 1;
  BitsVec left = k >> m.half, right = k & mask;
  DEEPTHIN_UNROLL
  for (uint32_t round = 0; round < 4; ++round) {
    const BitsVec next = left ^ (mixed(right ^ (m.key ^ round * 0x7f4a7c15u)) & mask);
    left = right;
    right = next;
  }
  return left << m.half | right;
}

void shuffle(const ShuffledView& m, size_t first, size_t count, float* out) {
  uint32_t position[kTileInputs + W], again[kTileInputs + W], slot[kTileInputs];
  const BitsVec lane = lane_numbers();
  for (size_t i = 0; i < count; i += W) store_bits(position + i, permuted(m, lane + uint32_t(first + i)));
  for (size_t i = count; i % W; ++i) position[i] = 0;

  // Positions outside the matrix go through the network again until they fall inside.
  size_t outside = 0;
  for (size_t i = 0; i < count; ++i) {
    slot[outside] = uint32_t(i);
    again[outside] = position[i];
    outside += position[i] > m.last;
  }
  while (outside) {
    for (size_t i = outside; i % W; ++i) again[i] = 0;
    for (size_t i = 0; i < outside; i += W) store_bits(again + i, permuted(m, load_bits(again + i)));
    size_t left = 0;
    for (size_t i = 0; i < outside; ++i) {
      position[slot[i]] = again[i];
      slot[left] = slot[i];
      again[left] = again[i];
      left += again[i] > m.last;
    }
    outside = left;
  }

  for (size_t i = 0; i < count; i += W) {
    const BitsVec at = load_bits(position + i);
    // The product with the rounded-down reciprocal is the quotient or one less.
    BitsVec row = high_product(at, m.reciprocal), column = at - row * m.n;
    const BitsVec more = (BitsVec)(column >= m.n);
    row -= more;
    column -= more & m.n;
    Vec sum = splat(0.0f);
    for (uint32_t j = 0; j < m.r; ++j) sum += gather(m.Xf, row * m.r + j) * gather(m.Wf + size_t(j) * m.n, column);
    store(out + i, sum);
  }
}

DEEPTHIN_INLINE float total(Vec v) {
  float sum = 0.0f;
  DEEPTHIN_UNROLL
  for (size_t l = 0; l < W; ++l) sum += v[l];
  return sum;
}

// Four sums at a time: each takes as long as a multiply-add to be ready for the next.
template <typename Term, typename LastTerm>
DEEPTHIN_INLINE float sum_of(size_t count, Term term, LastTerm last) {
  Vec sum[4] = {};
  size_t i = 0;
  for (; i + 4 * W <= count; i += 4 * W) {
    DEEPTHIN_UNROLL
    for (size_t u = 0; u < 4; ++u) sum[u] += term(i + u * W);
  }
  for (; i + W <= count; i += W) sum[0] += term(i);
  float rest = 0.0f;
  for (; i < count; ++i) rest += last(i);
  return total((sum[0] + sum[1]) + (sum[2] + sum[3])) + rest;
}

void dot_rows(const float* weights, size_t count, const float* const* x, size_t offset, size_t rows, float* sums) {
  for (size_t row = 0; row < rows; ++row) {
    const float* values = x[row] + offset;
    sums[row] += sum_of(
        count, [=](size_t i) { return load(weights + i) * load(values + i); },
        [=](size_t i) { return weights[i] * values[i]; });
  }
}

template <int L>
DEEPTHIN_INLINE void tile_lanes_of(const float* weights, size_t outputs, size_t count, const float* x,
                                   bool accumulate, float* y) {
  switch (outputs) {
#define DEEPTHIN_CASE(S)                                                         \
  case S:                                                                        \
    sum_lanes<S, L>(weights, 1, kTileStride, x, count, accumulate, y, L * W); \
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

void tile_lanes(const float* weights, size_t outputs, size_t count, const float* x, size_t planes, bool accumulate,
                float* y) {
  static_assert(kTileOutputs == 6, "tile_lanes_of() has a case for each");
  if (planes == 2)
    tile_lanes_of<2>(weights, outputs, count, x, accumulate, y);
  else
    tile_lanes_of<1>(weights, outputs, count, x, accumulate, y);
}

#include "kernels_codes.inl"
#include "kernels_rows.inl"

constexpr StoredKernels kStored = {look_up,     unpack,     hash,         shuffle,          dot_rows,           tile_lanes,
                                   bytes_lanes, sparse_row, sparse_lanes, sparse_codes_row, sparse_codes_lanes, codes_row,
                                   byte_codes_row, kWordCodes};
