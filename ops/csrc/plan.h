// The plan of one DeepThin matrix: what is computed once, when a session is created.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "fft.h"
#include "kernels.h"

namespace deepthin {

// Throws std::invalid_argument where an m x n matrix cannot fill a Q x R matrix.
void check_fills(size_t Q, size_t R, size_t m, size_t n);

// About as many vector multiply-adds as take as long as one row, or one block of `lanes` rows.
struct PathCosts {
  double correlation, band;
  bool transformed;
  double both() const { return correlation + band; }
};
// The cheaper way to correlate, or the forced one, and the band, whose factors are packed or, in a narrow plan, not.
PathCosts estimate(const Kernels& kernels, size_t Q, size_t R, size_t n, size_t r, bool in_lanes, bool narrow = false);
// Rows from which on a block of lanes costs less than one row after the other.
size_t fewest_lanes(const Kernels& kernels, const PathCosts& row, const PathCosts& block);

// What one row takes, or one block of `lanes` rows.
struct PlanCosts {
  double correlation_flops, band_flops;  // multiplications and additions of the result, or of its transform
  double bytes;                          // constants read
};

// Which factors the runtime holds in half precision, or less: all of their values are half-precision numbers.
struct Precision {
  bool half_Xf = false, half_Wf = false;
};

class Plan {
 public:
  // Xf is m x r and Wf is r x n, row by row. Throws std::invalid_argument where they cannot fill a Q x R matrix.
  Plan(const Kernels& kernels, size_t Q, size_t R, size_t m, size_t n, size_t r, const float* Xf, const float* Wf,
       Precision precision = {});

  // The plan as the kernels read it, with the factors where the runtime holds them, as float, during this call.
  PlanView view(const float* Xf, const float* Wf) const;

  const Kernels& kernels() const { return *kernels_; }
  size_t Q() const { return view_.Q; }
  size_t R() const { return view_.R; }

  // Where the outputs use fewer than half the lanes that n phases take, the packed factors would be mostly padding.
  // With a small n (narrow) lanes are then rows of Xf, which is read where it lies; with a large one (direct) most of the
  // correlation would not be used, and the matrix is computed from the definition.
  bool narrow() const { return path_ == Path::kNarrow; }
  bool direct() const { return path_ == Path::kDirect; }

  // Multiply-adds per input row, as far as they take time.
  size_t work() const { return work_; }

  PlanCosts costs(bool lanes) const;
  // What the plan keeps, beside the factors that the runtime holds.
  size_t bytes() const;
  size_t fewest_lanes() const { return fewest_lanes_; }
  // Whether a view needs the factors that the runtime holds.
  bool reads_factors() const { return path_ != Path::kPacked; }

 private:
  enum class Path { kPacked, kNarrow, kDirect };

  void find_outputs(const float* Wf);
  void pack(const float* Xf, bool half);

  const Kernels* kernels_;
  PlanView view_{};
  Path path_ = Path::kPacked;
  size_t work_ = 0, fewest_lanes_ = 0;
  std::optional<Fft> row_fft_, rows_fft_;
  std::vector<int32_t> first_output_;
  std::vector<float> taps_, packed_, ranks_, own_Xf_, own_Wf_;
  std::vector<uint16_t> packed_half_;
  std::vector<size_t> packed_offset_;
  std::vector<uint32_t> packed_output_, position_;
};

}  // namespace deepthin
