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

// The entries of a sparse matrix, output by output: starts[c] .. starts[c + 1] - 1 are those of output c, `count` in all.
// One of `narrow` and `wide`, the inputs that they are at, is null.
struct SparseView {
  const float* values;
  const uint16_t* narrow;
  const uint32_t* wide;
  const int32_t* starts;
  size_t count;
};

// The same as codes of values, table[256], and of the zeros between the inputs.
struct CodedSparseView {
  PackedView symbols, gaps;
  const float* table;
  const int32_t* starts;
};

// A matrix of codes, the `row` bytes of one output after those of another.
struct CodedView {
  const uint8_t* indices;
  size_t Q, R, bits, row;
  const float* table;  // table[256]
};

// Working memory of byte_codes_row().
constexpr size_t kByteTableFloats = 16 * 256;

// Working memory of word_codes_row().
inline size_t ordered_floats(size_t row, size_t bits) { return (row + 31) / 32 * 32 * (8 / bits); }

// Codes that unpack() gives at a time, at most.
constexpr size_t kMostCodesAtOnce = 64;

// Parts of a matrix that are made at a time: so many outputs, each of so many inputs.
constexpr size_t kTileOutputs = 6;
constexpr size_t kTileInputs = 512;
// Not a multiple of a page, so that the rows of a tile do not fall into the same cache sets.
constexpr size_t kTileStride = kTileInputs + 16;

struct StoredKernels {
  // Parts of matrices that are looked up or computed, `count` values from entry `first` on. All fill whole vectors: the
  // output has room for round_up(count, lanes).
  void (*look_up)(const PackedView&, size_t first, size_t count, const float* table, float* out);  // table[256]
  // The codes as bytes; fills whole groups of kMostCodesAtOnce at most.
  void (*unpack)(const PackedView&, size_t first, size_t count, uint8_t* out);
  void (*hash)(const HashedView&, size_t first, size_t count, float* out);
  void (*shuffle)(const ShuffledView&, size_t first, size_t count, float* out);  // count at most kTileInputs

  // sums[i] += the `count` weights by the values of row i from `offset` on.
  void (*dot_rows)(const float* weights, size_t count, const float* const* x, size_t offset, size_t rows, float* sums);
  // The same for up to kTileOutputs outputs, whose weights lie kTileStride apart, and the rows of `planes` vectors.
  void (*tile_lanes)(const float* weights, size_t outputs, size_t count, const float* x, size_t planes,
                     bool accumulate, float* y);
  // The same for codes in bytes, those of one output `row` bytes behind those of the one before.
  void (*bytes_lanes)(const uint8_t* codes, size_t row, const float* table, size_t outputs, size_t count, const float* x,
                      size_t planes, bool accumulate, float* y);

  // Outputs [first, last), for one row and for the rows of `planes` vectors; the sums of output `first` come first.
  void (*sparse_row)(const SparseView&, size_t first, size_t last, const float* x, float* y);
  void (*sparse_lanes)(const SparseView&, size_t first, size_t last, const float* x, size_t planes, float* sums);
  void (*sparse_codes_row)(const CodedSparseView&, size_t first, size_t last, const float* x, float* y);
  void (*sparse_codes_lanes)(const CodedSparseView&, size_t first, size_t last, const float* x, size_t planes,
                             float* sums);

  // Outputs [first, last) of one row, where there is no batch to share what it takes to make a weight.
  void (*codes_row)(const CodedView&, size_t first, size_t last, const float* x, float* y);
  // Codes of 1, 2 or 4 bits: for each byte of them, all that it can stand for is summed up before.
  void (*byte_codes_row)(const CodedView&, size_t first, size_t last, const float* x, float* y, float* sums);
  // Codes of 2 or 4 bits, 32 bytes of them at a time, or null. `ordered` has room for ordered_floats().
  void (*word_codes_row)(const CodedView&, size_t first, size_t last, const float* x, float* y, float* ordered);
};

}  // namespace deepthin
