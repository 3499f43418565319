// The arithmetic, once per instruction set, behind one table of functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deepthin {

enum class Activation : int { kNone, kRelu, kClippedRelu, kSigmoid, kTanh };

// What is added to the finished product, for R outputs. `bias` may be null.
struct Epilogue {
  const float* bias;
  Activation activation;
};

struct FftView;

// How a Q x R DeepThin matrix is computed with: built once by `Plan`, read by every kernel.
//
// Offsets o = -(n-1) .. Q-1 of the correlation are counted as index = o + n - 1 = k*n + phase, with phase < n. Output c
// reads the indices of one phase only, n - 1 - (c*Q mod n), at k = 0 .. count-1; outputs `period` apart share a phase.
struct PlanView {
  size_t Q, R, n, r;
  size_t period;                // n / gcd(n, Q)
  size_t max_count;             // the largest count of any phase
  const int32_t* first_output;  // [n] by phase: the first output that reads it, or -1
  const float* Wf;              // [r][n], the caller's
  const float* Xf;              // [m][r], the caller's
  const float* ranks;           // [r][m], the same rank by rank; only where the plan is narrow
  size_t m;

  // Transforms that correlate, or null where taking the taps one by one is faster: for one row and for `lanes` rows.
  const FftView *row_fft, *rows_fft;

  // Outputs in groups of `lanes` neighbouring phases, Xf packed in the order it is read: by group, chunk of outputs,
  // rank, k, output and lane.
  size_t groups;
  size_t taps_stride;             // n rounded up to lanes
  const float* taps;              // [r][taps_stride], Wf padded with zeros
  const float* packed;
  const uint16_t* packed_half;    // the same in half precision, or null
  const size_t* packed_offset;    // [groups + 1]
  const uint32_t* packed_output;  // [groups + 1], in vectors: where a group's outputs start
  const uint32_t* position;       // [R], in floats: where output c is found in the packed outputs

  size_t offsets() const { return Q + n - 1; }
};

// Groups of a packed plan split their outputs into chunks of at most this many, each kept in registers.
constexpr size_t kRowChunk = 12;
// Independent multiply-adds of `multiply_adds`.
constexpr size_t kMeasuredChains = 12;
// Offsets held in registers at a time, in vectors.
constexpr size_t kBlock = 8;

inline size_t chunks_of(size_t count, size_t at_most) { return (count + at_most - 1) / at_most; }
inline size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Sizes in floats of the buffers that the kernels work in.
inline size_t padded_row_floats(const PlanView& p, size_t lanes) { return p.offsets() + (kBlock + 4) * lanes; }
inline size_t row_offsets_floats(const PlanView& p, size_t lanes) {
  const size_t band = p.max_count * p.n + 2 * lanes, blocks = round_up(p.offsets(), kBlock * lanes);
  return round_up(band > blocks ? band : blocks, 16);
}
inline size_t lane_input_floats(const PlanView& p, size_t lanes) { return (p.Q + 2 * kBlock) * lanes; }
// An odd stride keeps the columns of a power-of-two count out of one cache set.
inline size_t phase_stride(const PlanView& p) { return p.max_count | 1; }
// A group's factors as float, where they are packed in half precision.
inline size_t unpacked_floats(const PlanView& p) {
  size_t most = 0;
  for (size_t g = 0; p.packed_half && g < p.groups; ++g) {
    const size_t count = p.packed_offset[g + 1] - p.packed_offset[g];
    if (count > most) most = count;
  }
  return most;
}
inline size_t lane_offsets_floats(const PlanView& p, size_t lanes, size_t planes) {
  return p.n * phase_stride(p) * planes * lanes;
}

// One level of a transform (fft.h): nodes of `length` points, each split into `radix`, with radix - 1 twiddles a node.
struct FftLevel {
  size_t radix, length;
  const float* twiddles;
};
constexpr size_t kMaxFftLevels = 24;

struct FftView {
  size_t length;  // complex points
  size_t points;  // the same in points of two vectors
  size_t buffer;  // floats that hold them
  size_t levels;
  FftLevel level[kMaxFftLevels];
  const float* across;    // twiddles of the levels across the lanes, by groups of `lanes` points
  const float* spectrum;  // [r][spectrum_floats]
  size_t spectrum_floats;
};

namespace training {
struct Steps;  // training/steps.h
}
struct GateKernels;    // gates.h
struct StoredKernels;  // stored_kernels.h

struct Kernels {
  const char* name;
  size_t lanes;
  const training::Steps* training;
  const GateKernels* gates;
  const StoredKernels* stored;

  // One row. `x` is zero-padded by n - 1 in front; offsets [first, last) in steps of kBlock * lanes.
  void (*correlate_row)(const PlanView&, size_t rank, const float* x, float* offsets, size_t first, size_t last);
  // `offsets` holds all r ranks, `stride` floats apart. Groups [first, last).
  void (*band_row)(const PlanView&, const float* offsets, size_t stride, float* packed_y, size_t first, size_t last);
  void (*finish_row)(const PlanView&, const float* packed_y, const Epilogue&, float* y);
  // Narrow plans: `phases` holds all r ranks, n times phase_stride() floats each. Outputs [first, last).
  void (*narrow_row)(const PlanView&, const float* phases, const Epilogue&, float* y, size_t first, size_t last);

  // `lanes` rows at once, lane = row; `planes` such blocks are interleaved (1 or 2). Groups [first, last) of the band.
  // `count` values of each row, value q of all at x + q * step.
  void (*load_lanes)(size_t count, const float* const* rows, float* x, size_t step);
  void (*correlate_lanes)(const PlanView&, size_t rank, const float* x, float* offsets, size_t planes, size_t plane,
                          size_t first, size_t last);
  // `unpacked` has room for unpacked_floats().
  void (*band_lanes)(const PlanView&, size_t rank, const float* offsets, size_t planes, float* unpacked, float* y,
                     size_t first, size_t last);
  // Narrow plans: outputs [first, last) of those that share a phase, for every phase.
  void (*narrow_lanes)(const PlanView&, size_t rank, const float* offsets, size_t planes, float* y, size_t first,
                       size_t last);
  // The other way, for `count` rows.
  void (*store_lanes)(size_t outputs, const float* y, size_t step, const Epilogue&, float* const* rows, size_t count);

  // The same offsets by a transform of `lanes` rows, or of one: `count` values of them there, and back for each rank. What
  // comes back is made in `work`, which may be z. The offsets of a row are written in whole vectors.
  void (*fft_rows_split)(const FftView&, const float* const* rows, size_t count, float* z);
  void (*fft_rows_join)(const FftView&, const PlanView&, size_t rank, const float* z, float* work, float* offsets,
                        size_t planes, size_t plane);
  void (*fft_row_split)(const FftView&, const float* x, size_t count, float* z);
  void (*fft_row_join)(const FftView&, size_t rank, const float* z, float* work, float* offsets, size_t count);

  // Any geometry, one row, outputs [first, last): short dot products straight from the definition.
  void (*direct)(const PlanView&, const float* x, const Epilogue&, float* y, size_t first, size_t last);

  // What the processor can do at most: see kernels_measure.inl.
  float (*multiply_adds)(size_t rounds);
  float (*read_values)(const float* from, size_t count);

  // Adds the bias to `count` finished sums and applies the activation.
  void (*finish)(float* y, size_t count, const Epilogue&);
};

// Null where this build does not hold the instruction set; whether the processor has it is asked in dispatch.cpp.
const Kernels* scalar_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* neon_kernels();

// The kernels that DEEPTHIN_OPS_ISA names, or else the best that this processor runs.
// Throws std::runtime_error where the named set is unknown or cannot run here.
const Kernels& choose_kernels();

// Comma-separated names of the sets that can run here, best first.
const char* available_kernels();

}  // namespace deepthin
