#include "matrix.h"

#include <algorithm>

#include "slices.h"

namespace deepthin {
namespace {

// What making a weight costs, in multiply-adds.
constexpr size_t kMakingWeight = 4;
constexpr size_t kMakingEntry = 8;

// Outputs whose sums are kept before they are written: a multiple of kTileOutputs and of every number of lanes.
constexpr size_t kGroup = 48;

static_assert(kGroup % kTileOutputs == 0 && kGroup % kMaxLanes == 0);

void few(const Matrix& matrix, ScratchPool& pool, const float* x, size_t rows, const Epilogue& epilogue, float* y,
         const Parallel* parallel) {
  const float* inputs[kMaxLanes];
  float* outputs[kMaxLanes];
  for (size_t i = 0; i < rows; ++i) inputs[i] = x + i * matrix.Q(), outputs[i] = y + i * matrix.R();
  sliced(parallel, matrix.R(), matrix.kernels().lanes, [&](size_t first, size_t last) {
    ScratchPool::Buffer buffer(pool, matrix.scratch_floats());
    matrix.few_rows(first, last, inputs, rows, outputs, buffer.take(0));
    const float* bias = epilogue.bias ? epilogue.bias + first : nullptr;
    for (size_t i = 0; i < rows; ++i)
      matrix.kernels().finish(outputs[i] + first, last - first, {bias, epilogue.activation});
  });
}

void many(const Matrix& matrix, ScratchPool& pool, const float* x, size_t rows, const Epilogue& epilogue, float* y,
          const Parallel* parallel) {
  const Kernels& kernels = matrix.kernels();
  const size_t lanes = kernels.lanes, Q = matrix.Q(), R = matrix.R(), block_rows = kMaxPlanes * lanes;
  const size_t blocks = chunks_of(rows, block_rows);
  const auto rounded = ScratchPool::Buffer::rounded;
  const auto planes_of = [&](size_t block) { return rows - block * block_rows > lanes ? kMaxPlanes : size_t{1}; };

  ScratchPool::Buffer held(pool, blocks * rounded(Q * block_rows));
  const float* inputs[kMostBlocks];
  for (size_t b = 0; b < blocks; ++b) {
    float* block = held.take(Q * block_rows);
    inputs[b] = block;
    for (size_t plane = 0; plane < planes_of(b); ++plane) {
      const float* from[kMaxLanes];
      // Lanes without a row repeat the last one; what comes of them is not stored.
      for (size_t i = 0; i < lanes; ++i) from[i] = x + std::min(b * block_rows + plane * lanes + i, rows - 1) * Q;
      kernels.load_lanes(Q, from, block + plane * lanes, planes_of(b) * lanes);
    }
  }

  sliced(parallel, R, kGroup, [&](size_t from, size_t to) {
    ScratchPool::Buffer buffer(pool, blocks * rounded(kGroup * block_rows) + rounded(matrix.scratch_floats()));
    LaneBlock work[kMostBlocks];
    for (size_t b = 0; b < blocks; ++b) work[b] = {inputs[b], buffer.take(kGroup * block_rows), planes_of(b)};
    float* scratch = buffer.take(matrix.scratch_floats());
    for (size_t first = from; first < to; first += kGroup) {
      const size_t last = std::min(first + kGroup, to);
      matrix.lane_rows(first, last, work, blocks, scratch);
      const Epilogue finish{epilogue.bias ? epilogue.bias + first : nullptr, epilogue.activation};
      for (size_t b = 0; b < blocks; ++b)
        for (size_t plane = 0; plane < work[b].planes; ++plane) {
          const size_t start = b * block_rows + plane * lanes, valid = std::min(lanes, rows - start);
          float* targets[kMaxLanes];
          for (size_t i = 0; i < valid; ++i) targets[i] = y + (start + i) * R + first;
          kernels.store_lanes(last - first, work[b].sums + plane * lanes, work[b].planes * lanes, finish, targets,
                              valid);
        }
    }
  });
}

}  // namespace

size_t TiledMatrix::work(size_t rows) const { return Q() * R() * (rows + kMakingWeight); }

void TiledMatrix::few_rows(size_t first, size_t last, const float* const* x, size_t rows, float* const* y,
                           float* tile) const {
  for (size_t c = first; c < last; ++c) {
    float sums[kMaxLanes] = {};
    for (size_t q = 0; q < Q(); q += kTileInputs) {
      const size_t count = std::min(kTileInputs, Q() - q);
      fill(c, q, count, tile);
      stored().dot_rows(tile, count, x, q, rows, sums);
    }
    for (size_t i = 0; i < rows; ++i) y[i][c] = sums[i];
  }
}

void TiledMatrix::lane_rows(size_t first, size_t last, const LaneBlock* blocks, size_t count, float* tile) const {
  const size_t lanes = kernels().lanes;
  for (size_t c = first; c < last; c += kTileOutputs) {
    const size_t outputs = std::min(kTileOutputs, last - c);
    for (size_t q = 0; q < Q(); q += kTileInputs) {
      const size_t inputs = std::min(kTileInputs, Q() - q);
      for (size_t i = 0; i < outputs; ++i) fill(c + i, q, inputs, tile + i * kTileStride);
      for (size_t b = 0; b < count; ++b) {
        const size_t step = blocks[b].planes * lanes;
        stored().tile_lanes(tile, outputs, inputs, blocks[b].x + q * step, blocks[b].planes, q > 0,
                             blocks[b].sums + (c - first) * step);
      }
    }
  }
}

size_t SparseMatrix::work(size_t rows) const { return size_t(starts_[R()]) * (rows + kMakingEntry); }

void multiply(const Matrix& matrix, ScratchPool& pool, const float* x, size_t count, const Epilogue& epilogue,
              float* y, const Parallel& parallel) {
  const size_t lanes = matrix.kernels().lanes;
  for (size_t first = 0; first < count;) {
    const size_t rows = std::min(matrix.blocks() * kMaxPlanes * lanes, count - first);
    const Parallel* share = processors() > 1 && matrix.work(rows) >= kWorthSharing ? &parallel : nullptr;
    (2 * rows <= lanes ? few : many)(matrix, pool, x + first * matrix.Q(), rows, epilogue, y + first * matrix.R(), share);
    first += rows;
  }
}

}  // namespace deepthin
