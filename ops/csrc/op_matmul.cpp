#include <optional>

#include "factors.h"
#include "matrix_op.h"
#include "ops.h"
#include "shuffled.h"

namespace deepthin {
namespace {

class MatMul {
 public:
  static const char* name() { return "DeepThinMatMul"; }
  static constexpr size_t required_inputs = 3, inputs = 5, outputs = 1;
  // The factors may have several types.
  static int input_type(size_t index) { return index == 1 || index == 2 ? abi::kElementUndefined : abi::kElementFloat; }

  MatMul(const Ort& ort, const abi::KernelInfo* info)
      : ort_(ort),
        Q_(positive(ort.integer(info, "Q"), "Q")),
        R_(positive(ort.integer(info, "R"), "R")),
        kernels_(choose_kernels()),
        activation_(activation_named(ort.text(info, "activation", ""))),
        pool_(ScratchPool::shared()) {
    if (const int64_t seed = ort.integer(info, "shuffle", 0)) {
      shuffled_ = shuffled_view(read_factors(ort, info, 1, "Xf", "Wf"), Q_, R_, seed);
      return;
    }
    const AnyFactor Xf(ort, info, 1, "Xf", 4), Wf(ort, info, 2, "Wf", 0);
    const Factors f = checked_factors(Xf.tensor(), Wf.tensor(), "Xf", "Wf");
    const Precision precision{Xf.half(), Wf.half()};
    product_.emplace(Plan(kernels_, Q_, R_, f.m, f.n, f.r, f.Xf, f.Wf, precision));
    reads_Xf_ = product_->plan().reads_factors() && !Xf.half();
    reads_Wf_ = product_->plan().reads_factors() && !Wf.half();
  }

  void compute(abi::KernelContext* context) const {
    const MatrixCall call = read_call(ort_, context, Q_, R_, 3);
    const Epilogue epilogue{call.bias, activation_};
    const Parallel parallel{ort_, context};
    const float* Xf = reads_Xf_ ? ort_.data<float>(context, 1) : nullptr;
    const float* Wf = reads_Wf_ ? ort_.data<float>(context, 2) : nullptr;
    if (product_) {
      const Rows<const float> x{call.x, 1, Q_, 0};
      product_->multiply(product_->plan().view(Xf, Wf), x, call.rows, epilogue, {call.y, 1, R_, 0}, parallel);
      return;
    }
    ShuffledView view = shuffled_;
    view.Xf = Xf;
    view.Wf = Wf;
    multiply(ShuffledMatrix(kernels_, Q_, R_, view), *pool_, call.x, call.rows, epilogue, call.y, parallel);
  }

 private:
  const Ort ort_;
  size_t Q_, R_;
  const Kernels& kernels_;
  Activation activation_;
  std::shared_ptr<ScratchPool> pool_;
  std::optional<Product> product_;
  ShuffledView shuffled_{};
  bool reads_Xf_ = true, reads_Wf_ = true;
};

}  // namespace

const abi::CustomOp* matmul_op() {
  static const CustomOpOf<MatMul> op;
  return &op;
}

}  // namespace deepthin
