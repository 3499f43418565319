// What the operators have in common that multiply rows by one stored matrix.
#pragma once

#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "attributes.h"
#include "custom_op.h"
#include "matrix.h"

namespace deepthin {

// The rows of a call and where their products go.
struct MatrixCall {
  const float *x, *bias;
  float* y;
  size_t rows;
};

inline MatrixCall read_call(const Ort& ort, abi::KernelContext* context, size_t Q, size_t R, size_t bias_input) {
  const Tensor x = ort.input(context, 0), bias = ort.input(context, bias_input);
  if (x.shape.empty() || x.shape.back() != int64_t(Q))
    throw std::invalid_argument("the last axis of X must have Q = " + std::to_string(Q) + " values");
  if (bias && (bias.shape.size() != 1 || bias.shape[0] != int64_t(R)))
    throw std::invalid_argument("the bias must have R = " + std::to_string(R) + " values");
  std::vector<int64_t> shape = x.shape;
  shape.back() = int64_t(R);
  const int64_t rows = std::accumulate(shape.begin(), shape.end() - 1, int64_t{1}, std::multiplies<>());
  return {x.data, bias.data, ort.output(context, 0, shape), size_t(rows)};
}

// An operator with the inputs X, the constants of `Stored` and a bias. `Stored` has: name(), constants (how many),
// constant_type(index), a constructor (const Ort&, const abi::KernelInfo*, size_t Q, size_t R) which checks everything,
// and bind(const Ort&, context, kernels), which gives the Matrix of one call.
template <typename Stored>
class MatrixOp {
 public:
  static const char* name() { return Stored::name(); }
  static constexpr size_t required_inputs = 1 + Stored::constants, inputs = required_inputs + 1, outputs = 1;
  static int input_type(size_t index) {
    const bool constant = index > 0 && index < required_inputs;
    return constant ? Stored::constant_type(index) : abi::kElementFloat;
  }

  MatrixOp(const Ort& ort, const abi::KernelInfo* info)
      : ort_(ort),
        Q_(positive(ort.integer(info, "Q"), "Q")),
        R_(positive(ort.integer(info, "R"), "R")),
        kernels_(choose_kernels()),
        activation_(activation_named(ort.text(info, "activation", ""))),
        stored_(ort, info, Q_, R_),
        pool_(ScratchPool::shared()) {}

  void compute(abi::KernelContext* context) const {
    const MatrixCall call = read_call(ort_, context, Q_, R_, required_inputs);
    const auto matrix = stored_.bind(ort_, context, kernels_);
    multiply(matrix, *pool_, call.x, call.rows, {call.bias, activation_}, call.y, {ort_, context});
  }

 private:
  const Ort ort_;
  size_t Q_, R_;
  const Kernels& kernels_;
  Activation activation_;
  Stored stored_;
  std::shared_ptr<ScratchPool> pool_;
};

}  // namespace deepthin
