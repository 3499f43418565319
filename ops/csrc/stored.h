// Reading the constant inputs that a matrix is stored in, and refusing what is none.
#pragma once

#include <stdexcept>
#include <string>

#include "kernels.h"
#include "ort.h"
#include "stored_kernels.h"

namespace deepthin {

// A constant input of one axis.
template <typename T>
struct Row {
  const T* data;
  size_t size;
};

template <typename T>
Row<T> constant_row(const Ort& ort, const abi::KernelInfo* info, size_t index, const char* name) {
  const TensorOf<T> tensor = ort.constant<T>(info, index, name);
  if (tensor.shape.size() != 1) throw std::invalid_argument(std::string(name) + " must have one axis");
  return {tensor.data, size_t(tensor.shape[0])};
}

inline void check_length(const char* name, size_t found, size_t wanted, const std::string& why) {
  if (found != wanted)
    throw std::invalid_argument(std::string(name) + " must have " + std::to_string(wanted) + " values (" + why +
                                "), not " + std::to_string(found));
}

// The number of entries of a sparse matrix, whose starts are a constant input.
inline size_t read_starts(Row<int32_t> starts, size_t R) {
  check_length("starts", starts.size, R + 1, "R + 1");
  if (starts.data[0] != 0) throw std::invalid_argument("starts must begin with 0");
  for (size_t c = 0; c < R; ++c)
    if (starts.data[c + 1] < starts.data[c]) throw std::invalid_argument("starts must not fall");
  return static_cast<size_t>(starts.data[R]);
}

// A codebook whose missing values are 0, so that no index of any width is read from beyond its end.
class Codebook {
 public:
  Codebook(Row<float> values) : size_(values.size) {
    if (values.size < 1 || values.size > kSize)
      throw std::invalid_argument("codebook must have 1 to 256 values, not " + std::to_string(values.size));
    for (size_t i = 0; i < values.size; ++i) table_[i] = values.data[i];
  }
  size_t size() const { return size_; }
  const float* table() const { return table_; }

 private:
  static constexpr size_t kSize = 256;
  size_t size_;
  float table_[kSize] = {};
};

// take(i, value) for the numbers first .. last - 1 of a stream that holds them all.
template <typename Take>
void for_each_code(const PackedView& p, size_t first, size_t last, const Take& take) {
  const uint32_t mask = (1u << p.bits) - 1;
  for (size_t i = first; i < last; ++i) {
    const size_t byte = i * p.bits / 8, shift = i * p.bits % 8;
    const uint32_t next = shift + p.bits > 8 ? p.data[byte + 1] : 0u;
    take((p.data[byte] | next << 8) >> shift & mask);
  }
}

// Throws std::invalid_argument unless each of the first `count` numbers is below `size`, the codebook's.
inline void check_codes(const PackedView& p, size_t count, size_t size, const char* what) {
  if (size >> p.bits) return;
  for_each_code(p, 0, count, [&](uint32_t code) {
    if (code >= size)
      throw std::invalid_argument(std::string(what) + " is " + std::to_string(code) + ", and the codebook has " +
                                  std::to_string(size) + " values");
  });
}

}  // namespace deepthin
