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
  static constexpr size_t required_inputs = 3, inputs = 4, outputs = 1;
  static int input_type(size_t) { return abi::kElementFloat; }

  MatMul(const Ort& ort, const abi::KernelInfo* info)
      : ort_(ort),
        Q_(positive(ort.integer(info, "Q"), "Q")),
        R_(positive(ort.integer(info, "R"), "R")),
        kernels_(choose_kernels()),
        activation_(activation_named(ort.text(info, "activation", ""))),
        pool_(ScratchPool::shared()) {
    if (const int64_t seed = ort.integer(info, "shuffle", 0))
      shuffled_ = shuffled_view(read_factors(ort, info, 1, "Xf", "Wf"), Q_, R_, seed);
    else
      product_.emplace(read_product(ort, info, 1, "Xf", "Wf", Q_, R_));
  }

  void compute(abi::KernelContext* context) const {
    const MatrixCall call = read_call(ort_, context, Q_, R_, 3);
    const Epilogue epilogue{call.bias, activation_};
    const Parallel parallel{ort_, context};
    const float *Xf = ort_.data<float>(context, 1), *Wf = ort_.data<float>(context, 2);
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
};

}  // namespace

const abi::CustomOp* matmul_op() {
  static const CustomOpOf<MatMul> op;
  return &op;
}

}  // namespace deepthin
