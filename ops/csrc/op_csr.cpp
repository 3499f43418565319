#include "matrix_op.h"
#include "ops.h"
#include "stored.h"

namespace deepthin {
namespace {

class CsrMatrix : public SparseMatrix {
 public:
  // One of `narrow` and `wide` is null.
  CsrMatrix(const Kernels& kernels, size_t Q, size_t R, const float* values, const uint16_t* narrow,
            const int32_t* wide, const int32_t* starts)
      : SparseMatrix(kernels, Q, R, starts), values_(values), narrow_(narrow), wide_(wide) {}

  void few_rows(size_t first, size_t last, const float* const* x, size_t rows, float* const* y, float*) const override {
    for (size_t i = 0; i < rows; ++i) stored().sparse_row(view(), first, last, x[i], y[i]);
  }
  void lane_rows(size_t first, size_t last, const LaneBlock* blocks, size_t count, float*) const override {
    for (size_t b = 0; b < count; ++b)
      stored().sparse_lanes(view(), first, last, blocks[b].x, blocks[b].planes, blocks[b].sums);
  }

 private:
  SparseView view() const {
    return {values_, narrow_, reinterpret_cast<const uint32_t*>(wide_), starts(), size_t(starts()[R()])};
  }

  const float* values_;
  const uint16_t* narrow_;
  const int32_t* wide_;
};

class StoredCsr {
 public:
  static const char* name() { return "CsrMatMul"; }
  static constexpr size_t constants = 3;
  static int constant_type(size_t index) {
    if (index == 1) return abi::kElementFloat;
    return index == 2 ? abi::kElementUndefined : abi::kElementInt32;
  }

  StoredCsr(const Ort& ort, const abi::KernelInfo* info, size_t Q, size_t R) : Q_(Q), R_(R) {
    const size_t count = read_starts(constant_row<int32_t>(ort, info, 3, "starts"), R);
    check_length("values", constant_row<float>(ort, info, 1, "values").size, count, "the last of starts");
    const int type = ort.element_type(ort.constant_value(info, 2, "inputs"));
    if (type == abi::kElementUint16)
      check_inputs(constant_row<uint16_t>(ort, info, 2, "inputs"), count);
    else if (type == abi::kElementInt32)
      check_inputs(constant_row<int32_t>(ort, info, 2, "inputs"), count);
    else
      throw std::invalid_argument("inputs must be of type uint16 or int32");
    narrow_ = type == abi::kElementUint16;
  }

  CsrMatrix bind(const Ort& ort, const abi::KernelContext* context, const Kernels& kernels) const {
    return {kernels, Q_, R_, ort.data<float>(context, 1), narrow_ ? ort.data<uint16_t>(context, 2) : nullptr,
            narrow_ ? nullptr : ort.data<int32_t>(context, 2), ort.data<int32_t>(context, 3)};
  }

 private:
  template <typename T>
  void check_inputs(Row<T> inputs, size_t count) const {
    check_length("inputs", inputs.size, count, "the last of starts");
    for (size_t i = 0; i < count; ++i)
      if (inputs.data[i] < 0 || size_t(inputs.data[i]) >= Q_)
        throw std::invalid_argument("entry " + std::to_string(i) + " is at input " + std::to_string(inputs.data[i]) +
                                    ", and Q is " + std::to_string(Q_));
  }

  size_t Q_, R_;
  bool narrow_ = false;
};

}  // namespace

const abi::CustomOp* csr_op() {
  static const CustomOpOf<MatrixOp<StoredCsr>> op;
  return &op;
}

}  // namespace deepthin
