// Reading a DeepThin matrix from the constant inputs of an operator.
#pragma once

#include <stdexcept>
#include <string>

#include "attributes.h"
#include "ort.h"
#include "product.h"

namespace deepthin {

// Xf is m x r and Wf is r x n.
struct Factors {
  const float *Xf, *Wf;
  size_t m, n, r;
};

// The factors that are inputs `index` and `index + 1`.
inline Factors read_factors(const Ort& ort, const abi::KernelInfo* info, size_t index, const char* xf_name,
                            const char* wf_name) {
  const Tensor Xf = ort.constant(info, index, xf_name), Wf = ort.constant(info, index + 1, wf_name);
  const std::string names = std::string(xf_name) + " and " + wf_name;
  if (Xf.shape.size() != 2 || Wf.shape.size() != 2 || Xf.shape[1] != Wf.shape[0])
    throw std::invalid_argument(names + " must be m x r and r x n");
  const size_t m = positive(Xf.shape[0], "m"), r = positive(Xf.shape[1], "r"), n = positive(Wf.shape[1], "n");
  return {Xf.data, Wf.data, m, n, r};
}

// The product with the Q x R matrix that they stand for.
inline Product read_product(const Ort& ort, const abi::KernelInfo* info, size_t index, const char* xf_name,
                            const char* wf_name, size_t Q, size_t R) {
  const Factors f = read_factors(ort, info, index, xf_name, wf_name);
  return Product(Plan(choose_kernels(), Q, R, f.m, f.n, f.r, f.Xf, f.Wf));
}

}  // namespace deepthin
