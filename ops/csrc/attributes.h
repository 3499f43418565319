// Attributes that several operators have.
#pragma once

#include <stdexcept>
#include <string>

#include "kernels.h"
#include "ort.h"

namespace deepthin {

inline size_t positive(int64_t value, const char* name) {
  if (value < 1 || value > (int64_t{1} << 31))
    throw std::invalid_argument(std::string(name) + " must be between 1 and 2^31, not " + std::to_string(value));
  return static_cast<size_t>(value);
}

inline size_t bits_attribute(const Ort& ort, const abi::KernelInfo* info, const char* name) {
  const int64_t bits = ort.integer(info, name);
  if (bits < 1 || bits > 8)
    throw std::invalid_argument(std::string(name) + " must be between 1 and 8, not " + std::to_string(bits));
  return static_cast<size_t>(bits);
}

inline Activation activation_named(const std::string& name) {
  if (name.empty()) return Activation::kNone;
  if (name == "relu") return Activation::kRelu;
  if (name == "clipped_relu") return Activation::kClippedRelu;
  if (name == "sigmoid") return Activation::kSigmoid;
  if (name == "tanh") return Activation::kTanh;
  throw std::invalid_argument("activation must be empty, relu, clipped_relu, sigmoid or tanh, not " + name);
}

}  // namespace deepthin
