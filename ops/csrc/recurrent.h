// What the recurrent layers have in common: their inputs and outputs, and how the steps are taken.
#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "custom_op.h"
#include "factors.h"
#include "gates.h"

namespace deepthin {

// A layer whose gates' inputs are one DeepThin product of X, made for many steps at a time, and one of the state. Its
// inputs are X, Xf_w, Wf_w, Xf_r, Wf_r, B and initial_h, its outputs Y and Y_h; an operator may have more behind these.
class Recurrent {
 public:
  static int input_type(size_t) { return abi::kElementFloat; }

 protected:
  Recurrent(const Ort& ort, const abi::KernelInfo* info, size_t gates)
      : ort_(ort),
        H_(positive(ort.integer(info, "hidden_size"), "hidden_size")),
        width_(gates * H_),
        batch_first_(ort.integer(info, "layout", 0) != 0),
        input_(read_product(ort, info, 1, "Xf_w", "Wf_w", input_size(info), width_)),
        recurrent_(read_product(ort, info, 3, "Xf_r", "Wf_r", H_, width_)) {}

  struct Call {
    const float* x;
    size_t steps, batch, x_step, x_row, y_step, y_row;
    const float *input_bias, *recurrent_bias, *initial;
    float *y, *final_state;
    PlanView input, recurrent;
    Parallel parallel;
  };

  // Rows first .. first + count - 1 of a batch on their way through steps from .. from + steps - 1.
  struct Part {
    const float* projected;
    size_t from, steps, first, count;
  };

  Call read(abi::KernelContext* context) const {
    const size_t I = input_.plan().Q();
    const Tensor x = ort_.input(context, 0), bias = ort_.input(context, 5);
    if (x.shape.size() != 3 || x.shape[2] != int64_t(I))
      throw std::invalid_argument("X must have three axes, the last of input_size = " + std::to_string(I) + " values");
    const size_t steps = size_t(x.shape[batch_first_ ? 1 : 0]), batch = size_t(x.shape[batch_first_ ? 0 : 1]);
    if (bias && (bias.shape.size() != 1 || bias.shape[0] != int64_t(2 * width_)))
      throw std::invalid_argument("B must have " + std::to_string(2 * width_ / H_) + " * hidden_size = " +
                                  std::to_string(2 * width_) + " values");
    const float* initial = initial_state(context, 6, "initial_h", batch);
    return {x.data,
            steps,
            batch,
            batch_first_ ? I : batch * I,
            batch_first_ ? steps * I : I,
            batch_first_ ? H_ : batch * H_,
            batch_first_ ? steps * H_ : H_,
            bias.data,
            bias ? bias.data + width_ : nullptr,
            initial,
            ort_.output(context, 0, {x.shape[0], x.shape[1], int64_t(H_)}),
            ort_.output(context, 1, {int64_t(batch), int64_t(H_)}),
            input_.plan().view(ort_.input(context, 1).data, ort_.input(context, 2).data),
            recurrent_.plan().view(ort_.input(context, 3).data, ort_.input(context, 4).data),
            {ort_, context}};
  }

  // Null where the input is left out.
  const float* initial_state(abi::KernelContext* context, size_t index, const char* name, size_t batch) const {
    const Tensor initial = ort_.input(context, index);
    if (initial && initial.shape != std::vector<int64_t>{int64_t(batch), int64_t(H_)})
      throw std::invalid_argument(std::string(name) + " must be batch x hidden_size");
    return initial.data;
  }

  // Runs recur(Part) until all rows have taken all steps, and writes the final state.
  template <typename Recur>
  void run(const Call& call, const Recur& recur) const {
    const size_t chunk = std::max<size_t>(1, kProjectedRows / std::max<size_t>(1, call.batch));
    const size_t rows = std::min(chunk, std::max<size_t>(1, call.steps)) * call.batch;
    ScratchPool::Buffer buffer(input_.pool(), ScratchPool::Buffer::rounded(rows * width_));
    float* projected = buffer.take(rows * width_);
    for (size_t from = 0; from < call.steps; from += chunk) {
      const size_t steps = std::min(chunk, call.steps - from);
      const Rows<const float> x{call.x + from * call.x_step, call.batch, call.x_step, call.x_row};
      input_.multiply(call.input, x, steps * call.batch, {call.input_bias, Activation::kNone},
                      {projected, 1, width_, 0}, call.parallel);
      // Rows of a batch never meet: each task takes some of them through all the steps.
      const size_t width = recurrent_.rows_per_task(call.batch);
      call.parallel(chunks_of(call.batch, width), [&](size_t task) {
        recur(Part{projected, from, steps, task * width, std::min(width, call.batch - task * width)});
      });
    }
    if (call.final_state)
      for (size_t b = 0; b < call.batch; ++b)
        std::memcpy(call.final_state + b * H_, states(call, call.steps, 0)[b], H_ * sizeof(float));
  }

  // The states before step t of row `first` and those behind it.
  Rows<const float> states(const Call& call, size_t t, size_t first) const {
    if (t) return {call.y + (t - 1) * call.y_step + first * call.y_row, 1, call.y_row, 0};
    if (call.initial) return {call.initial + first * H_, 1, H_, 0};
    return {zero_state_.data(), 1, 0, 0};
  }

  // The new state of row i of a part.
  float* state_after(const Call& call, const Part& part, size_t t, size_t i) const {
    return call.y + t * call.y_step + (part.first + i) * call.y_row;
  }

  // What X gives the gates of row i of a part.
  const float* projection(const Call& call, const Part& part, size_t t, size_t i) const {
    return part.projected + ((t - part.from) * call.batch + part.first + i) * width_;
  }

  const GateKernels& gate_kernels() const { return *recurrent_.plan().kernels().gates; }

  const Ort ort_;
  const size_t H_, width_;
  const bool batch_first_;
  const Product input_, recurrent_;

 private:
  // Input projections are made for about so many rows at a time: a long input needs no more memory than a short one.
  static constexpr size_t kProjectedRows = 256;

  // Where no input_size is given it is the largest that the factors fill: the right one for a minimal m and n <= width.
  size_t input_size(const abi::KernelInfo* info) const {
    const Tensor Xf = ort_.constant(info, 1, "Xf_w"), Wf = ort_.constant(info, 2, "Wf_w");
    if (Xf.shape.size() != 2 || Wf.shape.size() != 2) throw std::invalid_argument("Xf_w and Wf_w must be m x r and r x n");
    return positive(ort_.integer(info, "input_size", Xf.shape[0] * Wf.shape[1] / int64_t(width_)), "input_size");
  }

  std::vector<float> zero_state_ = std::vector<float>(H_, 0.0f);
};

}  // namespace deepthin
