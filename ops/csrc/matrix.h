// Rows times a Q x R matrix that is stored in another form and never held as a whole.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"
#include "parallel.h"
#include "scratch.h"
#include "stored_kernels.h"

namespace deepthin {

// Some rows of a batch side by side: value q of all of them at x + q * planes * lanes, sums likewise by output.
struct LaneBlock {
  const float* x;
  float* sums;
  size_t planes;
};

constexpr size_t kMostBlocks = 16;

// The matrix during one call.
class Matrix {
 public:
  Matrix(const Kernels& kernels, size_t Q, size_t R) : kernels_(&kernels), Q_(Q), R_(R) {}
  virtual ~Matrix() = default;

  const Kernels& kernels() const { return *kernels_; }
  const StoredKernels& stored() const { return *kernels_->stored; }
  size_t Q() const { return Q_; }
  size_t R() const { return R_; }

  // About how many multiply-adds so many rows take.
  virtual size_t work(size_t rows) const = 0;
  // Blocks of rows that share the making of a weight, at most kMostBlocks.
  virtual size_t blocks() const { return 4; }
  // Floats of working memory that the following need.
  virtual size_t scratch_floats() const = 0;
  // y[i][c] = x[i] · column c, for outputs [first, last); at most half as many rows as there are lanes.
  virtual void few_rows(size_t first, size_t last, const float* const* x, size_t rows, float* const* y,
                        float* scratch) const = 0;
  // The same for blocks of rows; the sums of output `first` come first.
  virtual void lane_rows(size_t first, size_t last, const LaneBlock* blocks, size_t count, float* scratch) const = 0;

 private:
  const Kernels* kernels_;
  size_t Q_, R_;
};

// A matrix whose entries are looked up or computed, a tile at a time.
class TiledMatrix : public Matrix {
 public:
  using Matrix::Matrix;
  size_t work(size_t rows) const override;
  size_t scratch_floats() const override { return kTileOutputs * kTileStride; }
  void few_rows(size_t first, size_t last, const float* const* x, size_t rows, float* const* y,
                float* scratch) const override;
  void lane_rows(size_t first, size_t last, const LaneBlock* blocks, size_t count, float* scratch) const override;

 protected:
  // The weights of inputs q .. q + count - 1 of output c; `tile` has room for whole vectors.
  virtual void fill(size_t c, size_t q, size_t count, float* tile) const = 0;
};

// A matrix of which only some entries are stored, output by output.
class SparseMatrix : public Matrix {
 public:
  // Output c has the entries starts[c] .. starts[c + 1] - 1.
  SparseMatrix(const Kernels& kernels, size_t Q, size_t R, const int32_t* starts)
      : Matrix(kernels, Q, R), starts_(starts) {}
  size_t work(size_t rows) const override;
  // Entries lead all over the inputs of a block, which more of them would drive out of the second-level cache.
  size_t blocks() const override { return 1; }
  size_t scratch_floats() const override { return 0; }

 protected:
  const int32_t* starts() const { return starts_; }

 private:
  const int32_t* starts_;
};

// y[i] = activation(x[i] · W + bias) for `count` rows of Q and R values, on the session's threads.
void multiply(const Matrix& matrix, ScratchPool& pool, const float* x, size_t count, const Epilogue& epilogue,
              float* y, const Parallel& parallel);

}  // namespace deepthin
