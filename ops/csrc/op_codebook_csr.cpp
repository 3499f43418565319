#include "matrix_op.h"
#include "ops.h"
#include "stored.h"

namespace deepthin {
namespace {

class CodebookCsrMatrix : public SparseMatrix {
 public:
  CodebookCsrMatrix(const Kernels& kernels, size_t Q, size_t R, const Codebook& codebook, PackedView symbols,
                    PackedView gaps, const int32_t* starts)
      : SparseMatrix(kernels, Q, R, starts), codebook_(codebook), symbols_(symbols), gaps_(gaps) {}

  void few_rows(size_t first, size_t last, const float* const* x, size_t rows, float* const* y, float*) const override {
    for (size_t i = 0; i < rows; ++i) stored().sparse_codes_row(view(), first, last, x[i], y[i]);
  }
  void lane_rows(size_t first, size_t last, const LaneBlock* blocks, size_t count, float*) const override {
    for (size_t b = 0; b < count; ++b)
      stored().sparse_codes_lanes(view(), first, last, blocks[b].x, blocks[b].planes, blocks[b].sums);
  }

 private:
  CodedSparseView view() const { return {symbols_, gaps_, codebook_.table(), starts()}; }

  const Codebook& codebook_;
  PackedView symbols_, gaps_;
};

class StoredCodebookCsr {
 public:
  static const char* name() { return "CodebookCsrMatMul"; }
  static constexpr size_t constants = 4;
  static int constant_type(size_t index) {
    if (index == 1) return abi::kElementFloat;
    return index == 4 ? abi::kElementInt32 : abi::kElementUint8;
  }

  StoredCodebookCsr(const Ort& ort, const abi::KernelInfo* info, size_t Q, size_t R)
      : Q_(Q),
        R_(R),
        value_bits_(bits_attribute(ort, info, "value_bits")),
        gap_bits_(bits_attribute(ort, info, "gap_bits")),
        codebook_(constant_row<float>(ort, info, 1, "codebook")) {
    if (codebook_.table()[0] != 0.0f) throw std::invalid_argument("the first value of codebook must be 0");
    const Row<int32_t> starts = constant_row<int32_t>(ort, info, 4, "starts");
    count_ = read_starts(starts, R);
    const Row<uint8_t> symbols = constant_row<uint8_t>(ort, info, 2, "symbols");
    check_length("symbols", symbols.size, bytes(value_bits_), "value_bits for each entry");
    check_codes({symbols.data, symbols.size, value_bits_}, count_, codebook_.size(), "a symbol");
    const Row<uint8_t> gaps = constant_row<uint8_t>(ort, info, 3, "gaps");
    check_length("gaps", gaps.size, bytes(gap_bits_), "gap_bits for each entry");
    const PackedView packed{gaps.data, gaps.size, gap_bits_};
    for (size_t c = 0; c < R; ++c) {
      size_t next = 0;
      for_each_code(packed, size_t(starts.data[c]), size_t(starts.data[c + 1]), [&](uint32_t gap) { next += gap + 1; });
      if (next > Q)
        throw std::invalid_argument("the gaps of output " + std::to_string(c) + " lead to input " +
                                    std::to_string(next - 1) + ", and Q is " + std::to_string(Q));
    }
  }

  CodebookCsrMatrix bind(const Ort& ort, const abi::KernelContext* context, const Kernels& kernels) const {
    const PackedView symbols{ort.data<uint8_t>(context, 2), bytes(value_bits_), value_bits_};
    const PackedView gaps{ort.data<uint8_t>(context, 3), bytes(gap_bits_), gap_bits_};
    return {kernels, Q_, R_, codebook_, symbols, gaps, ort.data<int32_t>(context, 4)};
  }

 private:
  size_t bytes(size_t bits) const { return (count_ * bits + 7) / 8; }

  size_t Q_, R_, value_bits_, gap_bits_, count_ = 0;
  Codebook codebook_;
};

}  // namespace

const abi::CustomOp* codebook_csr_op() {
  static const CustomOpOf<MatrixOp<StoredCodebookCsr>> op;
  return &op;
}

}  // namespace deepthin
