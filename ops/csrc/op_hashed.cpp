#include "hashed.h"
#include "matrix_op.h"
#include "ops.h"
#include "stored.h"

namespace deepthin {
namespace {

class HashedMatrix : public TiledMatrix {
 public:
  HashedMatrix(const Kernels& kernels, size_t Q, size_t R, HashedView view) : TiledMatrix(kernels, Q, R), view_(view) {}

 protected:
  void fill(size_t c, size_t q, size_t count, float* tile) const override {
    stored().hash(view_, c * Q() + q, count, tile);
  }

 private:
  HashedView view_;
};

class StoredHashed {
 public:
  static const char* name() { return "HashedMatMul"; }
  static constexpr size_t constants = 1;
  static int constant_type(size_t) { return abi::kElementFloat; }

  StoredHashed(const Ort& ort, const abi::KernelInfo* info, size_t Q, size_t R)
      : Q_(Q), R_(R), key_(seed_key(ort.integer(info, "seed"))) {
    check_countable(Q, R);
    K_ = uint32_t(positive(int64_t(constant_row<float>(ort, info, 1, "values").size), "the number of values"));
  }

  HashedMatrix bind(const Ort& ort, const abi::KernelContext* context, const Kernels& kernels) const {
    return {kernels, Q_, R_, {ort.data<float>(context, 1), K_, key_}};
  }

 private:
  size_t Q_, R_;
  uint32_t K_ = 0, key_;
};

}  // namespace

const abi::CustomOp* hashed_op() {
  static const CustomOpOf<MatrixOp<StoredHashed>> op;
  return &op;
}

}  // namespace deepthin
