// The arithmetic of training one DeepThin layer, per instruction set. Rows of the batch are lanes: they are worked on in
// panels of 2 * lanes rows, laid out index by index, so that every step is a broadcast weight times two vectors.
//
// With C[d] = sum over t of Wf[t] * x[d - (n-1) + t] for d = 0 .. Q+n-2, and d = k*n + phase, output c reads one phase:
//   y[c]    = sum over k of Xf[i+k] * C[k*n + phase],  i = c*Q / n        (band: one small matrix product per phase)
//   dC[d]   = sum over the outputs c of the phase of Xf[i+k] * dy[c]      (band, transposed)
//   dXf[i+k] += sum over rows of dy[c] * C[k*n + phase]                   (band_gradient)
//   dx[q]   = sum over t of Wf[n-1-t] * dC[q+t]                           (spread)
//   dWf[n-1-t] += sum over rows and q of x[q] * dC[q+t]                   (taps_gradient)
#pragma once

#include <cstddef>
#include <cstdint>

namespace deepthin {

enum class Activation : int;

namespace training {

// Weights kept in registers by one step of a band, times two vectors each.
constexpr size_t kTile = 6;
// Offsets of a correlation kept in registers at a time; a panel of inputs has as many zeros before and after it.
constexpr size_t kBlock = 8;

// One phase of the correlation: the outputs first, first + period .. read its offsets k = 0 .. count-1.
struct Phase {
  size_t phase, first, outputs, count;
  size_t packed;    // where its outputs * count factors start, in the order a band reads them
  size_t gradient;  // where its outputs rows of `padded` gradients start
  size_t padded;    // count rounded up to lanes
};

// How a layer is laid out, and how many panels are worked on together. Panels of one kind lie `stride` floats apart.
struct Layout {
  size_t Q, R, n, period;
  const Phase* phases;
  size_t phase_count;
  size_t offsets() const { return Q + n - 1; }
};

struct Panels {
  float* data;
  size_t stride;
  size_t count;
};

struct Steps {
  // [2 * lanes] rows of `width` values to a panel.
  void (*load_panel)(const float* const* rows, size_t width, float* panel);
  // The same for gradients at the outputs `y` of an activation, taken back through it; adds their sums to `bias`.
  void (*load_gradient)(const float* const* rows, const float* const* y, Activation, size_t width, float* bias,
                        float* panel);
  // The first `count` rows of a panel; `bias` may be null.
  void (*store_panel)(const float* panel, size_t width, const float* bias, Activation, float* const* rows,
                      size_t count);

  // `x` and `offsets` point behind their kBlock vectors of zeros.
  void (*correlate)(const Layout&, const float* taps, const float* x, float* offsets);
  // `taps` last first.
  void (*spread)(const Layout&, const float* taps, const float* offsets, bool accumulate, float* dx);
  // Adds lanes of sums, last tap first.
  void (*taps_gradient)(const Layout&, const float* x, const float* offsets, float* sums);

  void (*band)(const Layout&, const float* packed, const Panels& offsets, bool accumulate, const Panels& y);
  void (*band_transposed)(const Layout&, const float* packed, const Panels& dy, const Panels& offsets);
  // `turned` has room for the panels' rows times the largest `padded`.
  void (*band_gradient)(const Layout&, const Panels& dy, const Panels& offsets, float* turned, float* gradient);

  // One frame of CTC over `count` states (a multiple of lanes), in natural logs: each is reached from itself, from its
  // neighbour in `direction` (-1: the one before) and, where `skip` is 0, from the next but one. Returns the largest.
  float (*ctc_states)(const float* from, int direction, const float* skip, const float* emitted, float shift,
                      size_t count, float* to);
  // exp(forward + backward - emitted), scaled so that the largest is 1; returns their sum.
  float (*ctc_posteriors)(const float* forward, const float* backward, const float* emitted, size_t count, float* to);
  // One frame of CTC-CRF: for every unit b, to[b] = from[b] * table[b], a row times a matrix of `units` rows; all rows are
  // `width` long (a multiple of lanes).
  void (*crf_histories)(const float* from, const float* table, size_t units, size_t width, float* to);
};

}  // namespace training
}  // namespace deepthin
