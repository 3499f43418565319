// The kernels of matrices that are looked up, computed or sparse, once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deepthin {

// Whole numbers of `bits` bits each, from the least significant bit of each byte up. What lies behind `bytes` reads as 0.
struct PackedView {
  const uint8_t* data;
  size_t bytes, bits;
};

// Entry k of a hashed matrix is values[index] or its negative: see ops/hashing.py.
struct HashedView {
  const float* values;
  uint32_t K, key;
};

// Entry k of a shuffled DeepThin matrix is value p(k) of Xf · Wf: see ops/hashing.py.
struct ShuffledView {
  const float *Xf, *Wf;
  uint32_t n, r;
  uint32_t last;        // the number of the matrix's last entry
  uint32_t half, key;   // bits of each side of the network, and the seed's part of the keys
  uint32_t reciprocal;  // floor((2^32 - 1) / n)
};

// Parts of a matrix that are made at a time: so many outputs, each of so many inputs.
constexpr size_t kTileOutputs = 6;
constexpr size_t kTileInputs = 512;
// Not a multiple of a page, so that the rows of a tile do not fall into the same cache sets.
constexpr size_t kTileStride = kTileInputs + 16;

struct StoredKernels {
  // Parts of matrices that are looked up or computed, `count` values from entry `first` on. All fill whole vectors: the
  // output has room for round_up(count, lanes).
  void (*look_up)(const PackedView&, size_t first, size_t count, const float* table, float* out);  // table[256]
  void (*unpack)(const PackedView&, size_t first, size_t count, uint32_t* out);
  void (*hash)(const HashedView&, size_t first, size_t count, float* out);
  void (*shuffle)(const ShuffledView&, size_t first, size_t count, float* out);  // count at most kTileInputs

  // sums[i] += the `count` weights by the values of row i from `offset` on.
  void (*dot_rows)(const float* weights, size_t count, const float* const* x, size_t offset, size_t rows, float* sums);
  // The same for up to kTileOutputs outputs, whose weights lie kTileStride apart, and the rows of `planes` vectors.
  void (*tile_lanes)(const float* weights, size_t outputs, size_t count, const float* x, size_t planes,
                     bool accumulate, float* y);
  // The same for one output and weights of some inputs only.
  void (*dot_entries)(const float* values, const uint32_t* inputs, size_t count, const float* const* x, size_t rows,
                      float* sums);
  void (*entries_lanes)(const float* values, const uint32_t* inputs, size_t count, const float* x, size_t planes,
                        float* y);
};

}  // namespace deepthin
