// Reading a DeepThin matrix from the constant inputs of an operator.
#pragma once

#include <stdexcept>
#include <string>

#include "ort.h"
#include "product.h"

namespace deepthin {

inline size_t positive(int64_t value, const char* name) {
  if (value < 1 || value > (int64_t{1} << 31))
    throw std::invalid_argument(std::string(name) + " must be between 1 and 2^31, not " + std::to_string(value));
  return static_cast<size_t>(value);
}

// The product with the Q x R matrix whose factors are inputs `index` (Xf, m x r) and `index + 1` (Wf, r x n).
inline Product read_product(const Ort& ort, const abi::KernelInfo* info, size_t index, const char* xf_name,
                            const char* wf_name, size_t Q, size_t R) {
  const Tensor Xf = ort.constant(info, index, xf_name), Wf = ort.constant(info, index + 1, wf_name);
  const std::string names = std::string(xf_name) + " and " + wf_name;
  if (Xf.shape.size() != 2 || Wf.shape.size() != 2 || Xf.shape[1] != Wf.shape[0])
    throw std::invalid_argument(names + " must be m x r and r x n");
  const size_t m = positive(Xf.shape[0], "m"), r = positive(Xf.shape[1], "r"), n = positive(Wf.shape[1], "n");
  return Product(Plan(choose_kernels(), Q, R, m, n, r, Xf.data, Wf.data));
}

}  // namespace deepthin
