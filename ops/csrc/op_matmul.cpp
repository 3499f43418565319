#include <functional>
#include <numeric>

#include "custom_op.h"
#include "factors.h"
#include "ops.h"

namespace deepthin {
namespace {

Activation activation_named(const std::string& name) {
  if (name.empty()) return Activation::kNone;
  if (name == "relu") return Activation::kRelu;
  if (name == "clipped_relu") return Activation::kClippedRelu;
  if (name == "sigmoid") return Activation::kSigmoid;
  if (name == "tanh") return Activation::kTanh;
  throw std::invalid_argument("activation must be empty, relu, clipped_relu, sigmoid or tanh, not " + name);
}

class MatMul {
 public:
  static const char* name() { return "DeepThinMatMul"; }
  static constexpr size_t required_inputs = 3, inputs = 4, outputs = 1;

  MatMul(const Ort& ort, const abi::KernelInfo* info)
      : ort_(ort),
        product_(read_product(ort, info, 1, "Xf", "Wf", positive(ort.integer(info, "Q"), "Q"),
                              positive(ort.integer(info, "R"), "R"))),
        activation_(activation_named(ort.text(info, "activation", ""))) {}

  void compute(abi::KernelContext* context) const {
    const size_t Q = product_.plan().Q(), R = product_.plan().R();
    const Tensor x = ort_.input(context, 0), bias = ort_.input(context, 3);
    if (x.shape.empty() || x.shape.back() != int64_t(Q))
      throw std::invalid_argument("the last axis of X must have Q = " + std::to_string(Q) + " values");
    if (bias && (bias.shape.size() != 1 || bias.shape[0] != int64_t(R)))
      throw std::invalid_argument("the bias must have R = " + std::to_string(R) + " values");
    std::vector<int64_t> shape = x.shape;
    shape.back() = int64_t(R);
    const size_t rows = size_t(std::accumulate(shape.begin(), shape.end() - 1, int64_t{1}, std::multiplies<>()));
    float* y = ort_.output(context, 0, shape);
    const PlanView view = product_.plan().view(ort_.input(context, 1).data, ort_.input(context, 2).data);
    product_.multiply(view, {x.data, 1, Q, 0}, rows, {bias.data, activation_}, {y, 1, R, 0}, {ort_, context});
  }

 private:
  const Ort ort_;
  Product product_;
  Activation activation_;
};

}  // namespace

const abi::CustomOp* matmul_op() {
  static const CustomOpOf<MatMul> op;
  return &op;
}

}  // namespace deepthin
