#include <algorithm>

#include "matrix_op.h"
#include "ops.h"
#include "stored.h"

namespace deepthin {
namespace {

class CodebookMatrix : public TiledMatrix {
 public:
  CodebookMatrix(const Kernels& kernels, size_t Q, size_t R, const Codebook& codebook, const uint8_t* indices,
                 size_t bits)
      : TiledMatrix(kernels, Q, R), codebook_(codebook), indices_(indices), bits_(bits), row_((Q * bits + 7) / 8) {}

  size_t scratch_floats() const override {
    return std::max({TiledMatrix::scratch_floats(), kByteTableFloats, words() ? ordered_floats(row_, bits_) : 0});
  }

  void few_rows(size_t first, size_t last, const float* const* x, size_t rows, float* const* y,
                float* scratch) const override {
    const CodedView view{indices_, Q(), R(), bits_, row_, codebook_.table()};
    const bool bytes = 8 % bits_ == 0 && bits_ < 8 && last - first >= kWorthTables;
    // More rows share tiles.
    if (!bytes && !words() && rows > kFewestTiled) return TiledMatrix::few_rows(first, last, x, rows, y, scratch);
    for (size_t i = 0; i < rows; ++i)
      if (words())
        stored().word_codes_row(view, first, last, x[i], y[i], scratch);
      else if (bytes)
        stored().byte_codes_row(view, first, last, x[i], y[i], scratch);
      else
        stored().codes_row(view, first, last, x[i], y[i]);
  }

  void lane_rows(size_t first, size_t last, const LaneBlock* blocks, size_t count, float* scratch) const override {
    uint8_t* unpacked = reinterpret_cast<uint8_t*>(scratch);
    for (size_t c = first; c < last; c += kTileOutputs) {
      const size_t outputs = std::min(kTileOutputs, last - c);
      for (size_t q = 0; q < Q(); q += kTileInputs) {
        const size_t inputs = std::min(kTileInputs, Q() - q);
        for (size_t i = 0; i < outputs && bits_ < 8; ++i) stored().unpack(codes(c + i), q, inputs, unpacked + i * kTileStride);
        const uint8_t* bytes = bits_ < 8 ? unpacked : indices_ + c * row_ + q;
        for (size_t b = 0; b < count; ++b) {
          const size_t step = blocks[b].planes * kernels().lanes;
          stored().bytes_lanes(bytes, bits_ < 8 ? kTileStride : row_, codebook_.table(), outputs, inputs,
                               blocks[b].x + q * step, blocks[b].planes, q > 0, blocks[b].sums + (c - first) * step);
        }
      }
    }
  }

 protected:
  void fill(size_t c, size_t q, size_t count, float* tile) const override {
    stored().look_up(codes(c), q, count, codebook_.table(), tile);
  }

 private:
  PackedView codes(size_t c) const { return {indices_ + c * row_, (R() - c) * row_, bits_}; }
  bool words() const { return stored().word_codes_row && (bits_ == 2 || bits_ == 4); }

  // Outputs that pay for tables of bytes, and rows above which a tile pays.
  static constexpr size_t kWorthTables = 64, kFewestTiled = 2;

  const Codebook& codebook_;
  const uint8_t* indices_;
  size_t bits_, row_;
};

class StoredCodebook {
 public:
  static const char* name() { return "CodebookMatMul"; }
  static constexpr size_t constants = 2;
  static int constant_type(size_t index) { return index == 1 ? abi::kElementFloat : abi::kElementUint8; }

  StoredCodebook(const Ort& ort, const abi::KernelInfo* info, size_t Q, size_t R)
      : Q_(Q),
        R_(R),
        bits_(bits_attribute(ort, info, "bits")),
        codebook_(constant_row<float>(ort, info, 1, "codebook")) {
    const Row<uint8_t> indices = constant_row<uint8_t>(ort, info, 2, "indices");
    const size_t row = (Q * bits_ + 7) / 8;
    check_length("indices", indices.size, R * row, "R * ceil(Q * bits / 8)");
    for (size_t c = 0; c < R; ++c)
      check_codes({indices.data + c * row, row, bits_}, Q, codebook_.size(), "an index");
  }

  CodebookMatrix bind(const Ort& ort, const abi::KernelContext* context, const Kernels& kernels) const {
    return {kernels, Q_, R_, codebook_, ort.data<uint8_t>(context, 2), bits_};
  }

 private:
  size_t Q_, R_, bits_;
  Codebook codebook_;
};

}  // namespace

const abi::CustomOp* codebook_op() {
  static const CustomOpOf<MatrixOp<StoredCodebook>> op;
  return &op;
}

}  // namespace deepthin
