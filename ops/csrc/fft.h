// Correlation by way of a transform: what is computed once, when a session is created.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels.h"

namespace deepthin {

// The transform for one of the kernels' two uses, and the transformed rows of a factor.
//
// A real signal of 2 * length values stands for a polynomial a(t) with t^(2 * length) = -1. Putting t^length = i makes it
// `length` complex points, value k beside value k + length, without loss; a product of two such polynomials is their
// convolution as long as it is shorter than the signal. A level splits t^L = w into p nodes t^(L / p) = w_j, w_j^p = w:
// all butterflies of a node share their twiddles. The order in which it ends does not matter, as the way back starts there.
class Fft {
 public:
  // Lanes hold as many rows, or (kAcross) neighbouring points of one row, whose last levels run across the lanes.
  enum class Lanes { kRows, kAcross };

  // For convolutions of up to `values` values with the rows of Wf (r x n), each from its last value to its first.
  Fft(size_t values, size_t lanes, Lanes use, const float* Wf, size_t r, size_t n);

  const FftView& view() const { return view_; }

  // What a correlation with r rows of Wf takes, in vector multiply-adds of one that takes the taps one by one.
  static double operations(size_t values, size_t lanes, Lanes use, size_t r);

  // Multiplications and additions of a row, and bytes of the constants.
  double flops(size_t r) const { return split_flops_ + double(r) * join_flops_; }
  size_t bytes() const { return sizeof(float) * (twiddles_.size() + across_.size() + spectrum_.size()); }

 private:
  FftView view_{};
  double split_flops_ = 0, join_flops_ = 0;
  std::vector<float> twiddles_, across_, spectrum_;
};

}  // namespace deepthin
