// Rows times a DeepThin matrix: which path each row takes, and how the work is spread over the session's threads.
#pragma once

#include <cstddef>
#include <memory>

#include "parallel.h"
#include "plan.h"
#include "scratch.h"

namespace deepthin {

// Row i of a set of rows lies at base + (i / inner) * outer_step + (i % inner) * inner_step.
template <typename T>
struct Rows {
  T* base;
  size_t inner, outer_step, inner_step;
  T* operator[](size_t i) const { return base + (i / inner) * outer_step + (i % inner) * inner_step; }
};

// Hands out pieces of a working buffer.
class Pieces {
 public:
  explicit Pieces(float* start) : next_(start) {}
  float* operator()(size_t floats) {
    float* piece = next_;
    next_ += ScratchPool::Buffer::rounded(floats);
    return piece;
  }

 private:
  float* next_;
};

class Product {
 public:
  Product(Plan plan) : plan_(std::move(plan)), pool_(ScratchPool::shared()) {}

  const Plan& plan() const { return plan_; }
  ScratchPool& pool() const { return *pool_; }

  // y[i] = activation(x[i] · W + bias) for `count` rows, on the session's threads.
  void multiply(const PlanView& view, Rows<const float> x, size_t count, const Epilogue& epilogue, Rows<float> y,
                const Parallel& parallel) const;

  // The same on the calling thread, in `scratch` of at least `scratch_floats(count)`.
  void multiply_here(const PlanView& view, Rows<const float> x, size_t first, size_t count, const Epilogue& epilogue,
                     Rows<float> y, float* scratch) const;
  size_t scratch_floats(size_t count) const;

  // Rows that one thread takes at a time.
  size_t rows_per_task(size_t count) const;

  // Whether so many rows are worked on side by side, and not one after the other.
  bool use_lanes(size_t count) const { return !plan_.direct() && count >= plan_.fewest_lanes(); }

 private:
  void block(const PlanView&, Rows<const float> x, size_t first, size_t count, const Epilogue&, Rows<float> y,
             float* scratch, const Parallel* parallel) const;
  void one_row(const PlanView&, const float* x, const Epilogue&, float* y, float* scratch,
               const Parallel* parallel) const;
  // The offsets of all ranks, `stride` floats apart.
  void correlate_row(const PlanView&, const float* x, float* offsets, size_t stride, Pieces pieces,
                     const Parallel* parallel) const;
  void transform_row(const PlanView&, const float* x, float* offsets, size_t stride, Pieces pieces) const;
  void lane_rows(const PlanView&, Rows<const float> x, size_t first, size_t count, const Epilogue&, Rows<float> y,
                 float* scratch, const Parallel* parallel) const;

  Plan plan_;
  std::shared_ptr<ScratchPool> pool_;
};

}  // namespace deepthin
