#include <algorithm>
#include <cstring>

#include "custom_op.h"
#include "factors.h"
#include "gates.h"
#include "ops.h"

namespace deepthin {
namespace {

// Input projections are made for about this many rows at a time, so that a long input needs no more memory than a short.
constexpr size_t kProjectedRows = 256;

class Gru {
 public:
  static const char* name() { return "DeepThinGRU"; }
  static constexpr size_t required_inputs = 5, inputs = 7, outputs = 2;
  static int input_type(size_t) { return abi::kElementFloat; }

  Gru(const Ort& ort, const abi::KernelInfo* info)
      : ort_(ort),
        H_(positive(ort.integer(info, "hidden_size"), "hidden_size")),
        linear_before_reset_(ort.integer(info, "linear_before_reset", 1) != 0),
        batch_first_(ort.integer(info, "layout", 0) != 0),
        input_(read_product(ort, info, 1, "Xf_w", "Wf_w", input_size(info), 3 * H_)),
        recurrent_(read_product(ort, info, 3, "Xf_r", "Wf_r", H_, 3 * H_)) {
    const std::string order = ort.text(info, "gate_order", "zrh");
    if (order != "zrh" && order != "rzh") throw std::invalid_argument("gate_order must be zrh or rzh, not " + order);
    z_ = order == "zrh" ? 0 : H_;
    r_ = order == "zrh" ? H_ : 0;
  }

  void compute(abi::KernelContext* context) const {
    const Call call = read(context);
    const size_t chunk = std::max<size_t>(1, kProjectedRows / std::max<size_t>(1, call.batch));
    const size_t rows = std::min(chunk, std::max<size_t>(1, call.steps)) * call.batch;
    ScratchPool::Buffer buffer(input_.pool(), ScratchPool::Buffer::rounded(rows * 3 * H_));
    float* projected = buffer.take(rows * 3 * H_);
    for (size_t from = 0; from < call.steps; from += chunk) {
      const size_t steps = std::min(chunk, call.steps - from);
      const Rows<const float> x{call.x + from * call.x_step, call.batch, call.x_step, call.x_row};
      input_.multiply(call.input, x, steps * call.batch, {call.input_bias, Activation::kNone},
                      {projected, 1, 3 * H_, 0}, call.parallel);
      // Rows of a batch never meet: each task takes some of them through all the steps.
      const size_t width = recurrent_.rows_per_task(call.batch);
      call.parallel(chunks_of(call.batch, width), [&](size_t task) {
        recur(call, projected, from, steps, task * width, std::min(width, call.batch - task * width));
      });
    }
    if (call.final_state)
      for (size_t b = 0; b < call.batch; ++b)
        std::memcpy(call.final_state + b * H_, state_row(call, call.steps, b), H_ * sizeof(float));
  }

 private:
  struct Call {
    const float* x;
    size_t steps, batch, x_step, x_row, y_step, y_row;
    const float *input_bias, *recurrent_bias, *initial;
    float *y, *final_state;
    PlanView input, recurrent;
    Parallel parallel;
  };

  // Where no input_size is given it is the largest that the factors fill: the right one for a minimal m and n <= 3H.
  size_t input_size(const abi::KernelInfo* info) const {
    const Tensor Xf = ort_.constant(info, 1, "Xf_w"), Wf = ort_.constant(info, 2, "Wf_w");
    if (Xf.shape.size() != 2 || Wf.shape.size() != 2) throw std::invalid_argument("Xf_w and Wf_w must be m x r and r x n");
    return positive(ort_.integer(info, "input_size", Xf.shape[0] * Wf.shape[1] / int64_t(3 * H_)), "input_size");
  }

  Call read(abi::KernelContext* context) const {
    const size_t I = input_.plan().Q();
    const Tensor x = ort_.input(context, 0), bias = ort_.input(context, 5), initial = ort_.input(context, 6);
    if (x.shape.size() != 3 || x.shape[2] != int64_t(I))
      throw std::invalid_argument("X must have three axes, the last of input_size = " + std::to_string(I) + " values");
    const int64_t steps = x.shape[batch_first_ ? 1 : 0], batch = x.shape[batch_first_ ? 0 : 1];
    if (bias && (bias.shape.size() != 1 || bias.shape[0] != int64_t(6 * H_)))
      throw std::invalid_argument("B must have 6 * hidden_size = " + std::to_string(6 * H_) + " values");
    if (initial && initial.shape != std::vector<int64_t>{batch, int64_t(H_)})
      throw std::invalid_argument("initial_h must be batch x hidden_size");
    Call call{x.data,
              size_t(steps),
              size_t(batch),
              batch_first_ ? I : size_t(batch) * I,
              batch_first_ ? size_t(steps) * I : I,
              batch_first_ ? H_ : size_t(batch) * H_,
              batch_first_ ? size_t(steps) * H_ : H_,
              bias.data,
              bias ? bias.data + 3 * H_ : nullptr,
              initial.data,
              ort_.output(context, 0, {x.shape[0], x.shape[1], int64_t(H_)}),
              ort_.output(context, 1, {batch, int64_t(H_)}),
              input_.plan().view(ort_.input(context, 1).data, ort_.input(context, 2).data),
              recurrent_.plan().view(ort_.input(context, 3).data, ort_.input(context, 4).data),
              {ort_, context}};
    return call;
  }

  // The state of row b before step t.
  const float* state_row(const Call& call, size_t t, size_t b) const {
    if (t) return call.y + (t - 1) * call.y_step + b * call.y_row;
    if (call.initial) return call.initial + b * H_;
    return zero_state_.data();
  }

  void recur(const Call& call, const float* projected, size_t from, size_t steps, size_t first, size_t count) const {
    const auto rounded = ScratchPool::Buffer::rounded;
    ScratchPool::Buffer buffer(recurrent_.pool(),
                               rounded(count * 3 * H_) + 2 * rounded(count * H_) + rounded(recurrent_.scratch_floats(count)));
    float* gates = buffer.take(count * 3 * H_);
    float* reset = buffer.take(count * H_);
    float* update = buffer.take(count * H_);
    float* scratch = buffer.take(recurrent_.scratch_floats(count));
    const Epilogue bias{call.recurrent_bias, Activation::kNone};
    const GateKernels& gate = *recurrent_.plan().kernels().gates;
    const Rows<float> gate_rows{gates, 1, 3 * H_, 0};
    for (size_t t = from; t < from + steps; ++t) {
      const float* state = state_row(call, t, first);
      const size_t state_step = t ? call.y_row : call.initial ? H_ : 0;
      recurrent_.multiply_here(call.recurrent, {state, 1, state_step, 0}, 0, count, bias, gate_rows, scratch);
      GruGates g{};
      const auto point = [&](size_t i) {
        const float* input = projected + ((t - from) * call.batch + first + i) * 3 * H_;
        const float* u = gates + i * 3 * H_;
        g = {H_, input + z_, input + r_, input + 2 * H_, u + z_, u + r_, u + 2 * H_, state + i * state_step, nullptr};
      };
      if (!linear_before_reset_) {
        // The candidate needs the product with the reset state; the update gate comes from the first product.
        for (size_t i = 0; i < count; ++i) {
          point(i);
          g.out = reset + i * H_;
          gate.gru_reset(g);
          std::memcpy(update + i * H_, g.uz, H_ * sizeof(float));
        }
        recurrent_.multiply_here(call.recurrent, {reset, 1, H_, 0}, 0, count, bias, gate_rows, scratch);
      }
      for (size_t i = 0; i < count; ++i) {
        point(i);
        if (!linear_before_reset_) g.uz = update + i * H_;
        g.out = call.y + t * call.y_step + (first + i) * call.y_row;
        (linear_before_reset_ ? gate.gru_step : gate.gru_finish)(g);
      }
    }
  }

  const Ort ort_;
  size_t H_;
  bool linear_before_reset_, batch_first_;
  Product input_, recurrent_;
  size_t z_ = 0, r_ = 0;
  std::vector<float> zero_state_ = std::vector<float>(H_, 0.0f);
};

}  // namespace

const abi::CustomOp* gru_op() {
  static const CustomOpOf<Gru> op;
  return &op;
}

}  // namespace deepthin
