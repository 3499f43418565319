// One DeepThin layer in training: products and gradients over a batch of rows, at the compressed cost.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels.h"
#include "training/steps.h"

namespace deepthin::training {

class Layer {
 public:
  // Throws std::invalid_argument where m * n values cannot fill a Q x R matrix.
  Layer(const Kernels& kernels, size_t Q, size_t R, size_t m, size_t n, size_t r);

  // y[rows][R] = activation(x[rows][Q] · W + bias); Xf is [m][r], Wf is [r][n], `bias` may be null.
  void forward(const float* Xf, const float* Wf, const float* bias, Activation activation, const float* x,
               size_t rows, float* y, size_t threads) const;

  // dx[rows][Q] = dy[rows][R] · Wᵀ.
  void transposed(const float* Xf, const float* Wf, const float* dy, size_t rows, float* dx, size_t threads) const;

  // Gradients of everything, from the outputs `y` of the activation and the gradient `dy` there. `y` is not read where
  // there is no activation; `dx` and `dbias` may be null. Every gradient is written, not added to.
  void backward(const float* Xf, const float* Wf, Activation activation, const float* x, const float* y,
                const float* dy, size_t rows, float* dx, float* dXf, float* dWf, float* dbias, size_t threads) const;

 private:
  struct Sums;
  std::vector<float> packed(const float* Xf, bool transposed) const;
  std::vector<float> reversed(const float* Wf) const;
  void clear(const Panels& offsets, size_t panels) const;
  void store(const Panels& panels, size_t columns, size_t first, size_t count, float* dx) const;
  void forward_rows(const float* packed, const float* Wf, const float* bias, Activation activation, const float* x,
                    size_t first, size_t last, float* y) const;
  void transposed_rows(const float* packed, const float* taps, const float* dy, size_t first, size_t last,
                       float* dx) const;
  void backward_rows(const float* packed, const float* packed_transposed, const float* Wf, Activation activation,
                     const float* x, const float* y, const float* dy, size_t first, size_t last, float* dx,
                     Sums& sums) const;

  const Steps& steps_;
  size_t lanes_, m_, r_;
  std::vector<Phase> phases_;
  Layout layout_{};
  size_t factors_ = 0;    // packed values of one rank
  size_t gradients_ = 0;  // the same with every row padded
  size_t padded_ = 0;     // the longest such row
};

}  // namespace deepthin::training
