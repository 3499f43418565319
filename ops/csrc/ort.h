// A little C++ over the C ABI: errors become exceptions on the way in and statuses on the way out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "ort_abi.h"

namespace deepthin {

template <typename T>
constexpr int kElement = abi::kElementUndefined;
template <>
inline constexpr int kElement<float> = abi::kElementFloat;
template <>
inline constexpr int kElement<uint8_t> = abi::kElementUint8;
template <>
inline constexpr int kElement<uint16_t> = abi::kElementUint16;
template <>
inline constexpr int kElement<int32_t> = abi::kElementInt32;

template <>
inline constexpr int kElement<int8_t> = abi::kElementInt8;

// A half-precision number.
struct Half {
  uint16_t bits;
};
template <>
inline constexpr int kElement<Half> = abi::kElementFloat16;

template <typename T>
struct TensorOf {
  const T* data = nullptr;
  std::vector<int64_t> shape;
  explicit operator bool() const { return data != nullptr; }
};
using Tensor = TensorOf<float>;

struct Ort {
  const abi::Api* api;

  void check(abi::Status* status) const {
    if (!status) return;
    const std::string message = api->GetErrorMessage(status);
    api->ReleaseStatus(status);
    throw std::runtime_error(message);
  }

  // Runs `body` and turns what it throws into a status that starts with the operator's name.
  template <typename Body>
  abi::Status* guard(const char* name, const Body& body) const {
    try {
      body();
      return nullptr;
    } catch (const std::invalid_argument& error) {
      return api->CreateStatus(abi::kInvalidArgument, (std::string(name) + ": " + error.what()).c_str());
    } catch (const std::exception& error) {
      return api->CreateStatus(abi::kFail, (std::string(name) + ": " + error.what()).c_str());
    }
  }

  int element_type(const abi::Value* value) const {
    abi::TensorInfo* info = nullptr;
    check(api->GetTensorTypeAndShape(value, &info));
    int type = 0;
    abi::Status* status = api->GetTensorElementType(info, &type);
    api->ReleaseTensorTypeAndShapeInfo(info);
    check(status);
    return type;
  }

  template <typename T = float>
  TensorOf<T> tensor(const abi::Value* value) const {
    if (!value) return {};
    abi::TensorInfo* info = nullptr;
    check(api->GetTensorTypeAndShape(value, &info));
    size_t rank = 0;
    int type = 0;
    abi::Status* status = api->GetTensorElementType(info, &type);
    if (!status) status = api->GetDimensionsCount(info, &rank);
    TensorOf<T> tensor;
    tensor.shape.resize(status ? 0 : rank);
    if (!status) status = api->GetDimensions(info, tensor.shape.data(), rank);
    api->ReleaseTensorTypeAndShapeInfo(info);
    check(status);
    if (type != kElement<T>) throw std::invalid_argument("an input is a tensor of another type than it must be");
    tensor.data = contents<T>(value);
    return tensor;
  }

  template <typename T>
  const T* contents(const abi::Value* value) const {
    void* data = nullptr;
    // The ABI has no read-only access; nothing is written through this pointer.
    check(api->GetTensorMutableData(const_cast<abi::Value*>(value), &data));
    static const T empty{};
    return data ? static_cast<const T*>(data) : &empty;
  }

  // Input `index` of a call, or an empty tensor where it is left out.
  Tensor input(const abi::KernelContext* context, size_t index) const {
    size_t count = 0;
    check(api->KernelContext_GetInputCount(context, &count));
    if (index >= count) return {};
    const abi::Value* value = nullptr;
    check(api->KernelContext_GetInput(context, index, &value));
    return tensor(value);
  }

  // What the constant input `index`, of a type and shape that are known from `constant`, holds.
  template <typename T>
  const T* data(const abi::KernelContext* context, size_t index) const {
    const abi::Value* value = nullptr;
    check(api->KernelContext_GetInput(context, index, &value));
    if (!value) throw std::runtime_error("a constant input has gone");
    return contents<T>(value);
  }

  float* output(abi::KernelContext* context, size_t index, const std::vector<int64_t>& shape) const {
    abi::Value* value = nullptr;
    check(api->KernelContext_GetOutput(context, index, shape.data(), shape.size(), &value));
    if (!value) return nullptr;
    void* data = nullptr;
    check(api->GetTensorMutableData(value, &data));
    return static_cast<float*>(data);
  }

  const abi::Value* constant_value(const abi::KernelInfo* info, size_t index, const char* name) const {
    int is_constant = 0;
    const abi::Value* value = nullptr;
    check(api->KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value));
    if (!is_constant || !value) throw std::invalid_argument(std::string(name) + " must be a constant initializer");
    return value;
  }

  template <typename T = float>
  TensorOf<T> constant(const abi::KernelInfo* info, size_t index, const char* name) const {
    return tensor<T>(constant_value(info, index, name));
  }

  int64_t integer(const abi::KernelInfo* info, const char* name) const {
    int64_t value = 0;
    abi::Status* status = api->KernelInfoGetAttribute_int64(info, name, &value);
    if (!status) return value;
    api->ReleaseStatus(status);
    throw std::invalid_argument(std::string("attribute ") + name + " is missing or no integer");
  }

  int64_t integer(const abi::KernelInfo* info, const char* name, int64_t otherwise) const {
    int64_t value = 0;
    abi::Status* status = api->KernelInfoGetAttribute_int64(info, name, &value);
    if (!status) return value;
    api->ReleaseStatus(status);
    return otherwise;
  }

  std::string text(const abi::KernelInfo* info, const char* name, const char* otherwise) const {
    char buffer[64] = {};
    size_t size = sizeof(buffer);
    abi::Status* status = api->KernelInfoGetAttribute_string(info, name, buffer, &size);
    if (!status) return buffer;
    api->ReleaseStatus(status);
    // A null buffer asks for the size: it tells an attribute that is too long from one that is not there.
    status = api->KernelInfoGetAttribute_string(info, name, nullptr, &size);
    if (!status) throw std::invalid_argument(std::string("attribute ") + name + " is too long to be one it knows");
    api->ReleaseStatus(status);
    return otherwise;
  }
};

}  // namespace deepthin
