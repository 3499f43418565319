// Reading a DeepThin matrix from the constant inputs of an operator.
#pragma once

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "attributes.h"
#include "half.h"
#include "ort.h"
#include "product.h"

namespace deepthin {

// Rows of Xf that share a scale where it is stored in 8 bits.
constexpr size_t kScaledRows = 64;

// Xf is m x r and Wf is r x n.
struct Factors {
  const float *Xf, *Wf;
  size_t m, n, r;
};

inline Factors checked_factors(const Tensor& Xf, const Tensor& Wf, const char* xf_name, const char* wf_name) {
  const std::string names = std::string(xf_name) + " and " + wf_name;
  if (Xf.shape.size() != 2 || Wf.shape.size() != 2 || Xf.shape[1] != Wf.shape[0])
    throw std::invalid_argument(names + " must be m x r and r x n");
  const size_t m = positive(Xf.shape[0], "m"), r = positive(Xf.shape[1], "r"), n = positive(Wf.shape[1], "n");
  return {Xf.data, Wf.data, m, n, r};
}

// The factors that are inputs `index` and `index + 1`.
inline Factors read_factors(const Ort& ort, const abi::KernelInfo* info, size_t index, const char* xf_name,
                            const char* wf_name) {
  const Tensor Xf = ort.constant(info, index, xf_name), Wf = ort.constant(info, index + 1, wf_name);
  return checked_factors(Xf, Wf, xf_name, wf_name);
}

// The product with the Q x R matrix that they stand for.
inline Product read_product(const Ort& ort, const abi::KernelInfo* info, size_t index, const char* xf_name,
                            const char* wf_name, size_t Q, size_t R) {
  const Factors f = read_factors(ort, info, index, xf_name, wf_name);
  return Product(Plan(choose_kernels(), Q, R, f.m, f.n, f.r, f.Xf, f.Wf));
}

// A factor of any of the types that it may have. Those that are not float are turned into it for the time of planning;
// each of their values is a half-precision number.
class AnyFactor {
 public:
  // Where the factor has 8 bits, the input `scales_index` scales it; 0 where it may not.
  AnyFactor(const Ort& ort, const abi::KernelInfo* info, size_t index, const char* name, size_t scales_index) {
    const int type = ort.element_type(ort.constant_value(info, index, name));
    half_ = type != abi::kElementFloat;
    if (type == abi::kElementFloat16) {
      const TensorOf<Half> found = ort.constant<Half>(info, index, name);
      tensor_.shape = found.shape;
      for (size_t i = 0; i < count(); ++i) values_.push_back(finite(half_to_float(found.data[i].bits), name));
    } else if (type == abi::kElementInt8 && scales_index) {
      const TensorOf<int8_t> found = ort.constant<int8_t>(info, index, name);
      tensor_.shape = found.shape;
      scale(found.data, ort.constant(info, scales_index, "Xf_scales"), name);
    } else {
      tensor_ = ort.constant(info, index, name);
      return;
    }
    tensor_.data = values_.data();
  }

  const Tensor& tensor() const { return tensor_; }
  bool half() const { return half_; }

 private:
  size_t count() const {
    size_t product = 1;
    for (const int64_t size : tensor_.shape) product *= size_t(size);
    return product;
  }

  static float finite(float value, const char* name) {
    if (!std::isfinite(value)) throw std::invalid_argument(std::string(name) + " holds a value that is not finite");
    return value;
  }

  void scale(const int8_t* codes, const Tensor& scales, const char* name) {
    if (tensor_.shape.size() != 2) throw std::invalid_argument(std::string(name) + " must be m x r");
    const size_t r = size_t(tensor_.shape[1]);
    const int64_t blocks = int64_t(chunks_of(size_t(tensor_.shape[0]), kScaledRows));
    if (scales.shape != std::vector<int64_t>{blocks, tensor_.shape[1]})
      throw std::invalid_argument("Xf_scales must be " + std::to_string(blocks) + " x " + std::to_string(r) +
                                  ": one for every " + std::to_string(kScaledRows) + " rows of " + name);
    for (size_t i = 0; i < count(); ++i) {
      const float value = float(codes[i]) * scales.data[i / r / kScaledRows * r + i % r];
      values_.push_back(finite(half_to_float(float_to_half(value)), "Xf times its scales"));
    }
  }

  Tensor tensor_;
  std::vector<float> values_;
  bool half_;
};

}  // namespace deepthin
