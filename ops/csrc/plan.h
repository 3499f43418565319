// The plan of one DeepThin matrix: what is computed once, when a session is created.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace deepthin {

// Throws std::invalid_argument where an m x n matrix cannot fill a Q x R matrix.
void check_fills(size_t Q, size_t R, size_t m, size_t n);

class Plan {
 public:
  // Xf is m x r and Wf is r x n, row by row. Throws std::invalid_argument where they cannot fill a Q x R matrix.
  Plan(const Kernels& kernels, size_t Q, size_t R, size_t m, size_t n, size_t r, const float* Xf, const float* Wf);

  // The plan as the kernels read it, with the factors where the runtime holds them during this call.
  PlanView view(const float* Xf, const float* Wf) const;

  const Kernels& kernels() const { return *kernels_; }
  size_t Q() const { return view_.Q; }
  size_t R() const { return view_.R; }

  // True where the outputs use fewer than half the lanes that n phases take: the packed factors would be mostly padding
  // and the correlation mostly unused. Such a matrix is computed from the definition.
  bool direct() const { return direct_; }

  // Multiply-adds per input row.
  size_t work() const { return work_; }

 private:
  void pack(const float* Xf, const float* Wf);

  const Kernels* kernels_;
  PlanView view_{};
  bool direct_ = false;
  size_t work_ = 0;
  std::vector<int32_t> first_output_;
  std::vector<float> taps_, packed_;
  std::vector<size_t> packed_offset_;
  std::vector<uint32_t> packed_output_, position_;
};

}  // namespace deepthin
