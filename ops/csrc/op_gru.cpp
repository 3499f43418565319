#include "ops.h"
#include "recurrent.h"

namespace deepthin {
namespace {

class Gru : Recurrent {
 public:
  static const char* name() { return "DeepThinGRU"; }
  static constexpr size_t required_inputs = 5, inputs = 7, outputs = 2;
  using Recurrent::input_type;

  Gru(const Ort& ort, const abi::KernelInfo* info)
      : Recurrent(ort, info, 3), linear_before_reset_(ort.integer(info, "linear_before_reset", 1) != 0) {
    const std::string order = ort.text(info, "gate_order", "zrh");
    if (order != "zrh" && order != "rzh") throw std::invalid_argument("gate_order must be zrh or rzh, not " + order);
    z_ = order == "zrh" ? 0 : H_;
    r_ = order == "zrh" ? H_ : 0;
  }

  void compute(abi::KernelContext* context) const {
    const Call call = read(context);
    run(call, [&](const Part& part) { recur(call, part); });
  }

 private:
  void recur(const Call& call, const Part& part) const {
    const auto rounded = ScratchPool::Buffer::rounded;
    const size_t count = part.count, scratch_floats = recurrent_.scratch_floats(count);
    ScratchPool::Buffer buffer(recurrent_.pool(),
                               rounded(count * width_) + 2 * rounded(count * H_) + rounded(scratch_floats));
    float* gates = buffer.take(count * width_);
    float* reset = buffer.take(count * H_);
    float* update = buffer.take(count * H_);
    float* scratch = buffer.take(scratch_floats);
    const Epilogue bias{call.recurrent_bias, Activation::kNone};
    const GateKernels& kernels = gate_kernels();
    const Rows<float> gate_rows{gates, 1, width_, 0};
    for (size_t t = part.from; t < part.from + part.steps; ++t) {
      const Rows<const float> state = states(call, t, part.first);
      recurrent_.multiply_here(call.recurrent, state, 0, count, bias, gate_rows, scratch);
      GruGates g{};
      const auto point = [&](size_t i) {
        const float *input = projection(call, part, t, i), *u = gate_rows[i];
        g = {H_, input + z_, input + r_, input + 2 * H_, u + z_, u + r_, u + 2 * H_, state[i], nullptr};
      };
      if (!linear_before_reset_) {
        // The candidate needs the product with the reset state; the update gate comes from the first product.
        for (size_t i = 0; i < count; ++i) {
          point(i);
          g.out = reset + i * H_;
          kernels.gru_reset(g);
          std::memcpy(update + i * H_, g.uz, H_ * sizeof(float));
        }
        recurrent_.multiply_here(call.recurrent, {reset, 1, H_, 0}, 0, count, bias, gate_rows, scratch);
      }
      for (size_t i = 0; i < count; ++i) {
        point(i);
        if (!linear_before_reset_) g.uz = update + i * H_;
        g.out = state_after(call, part, t, i);
        (linear_before_reset_ ? kernels.gru_step : kernels.gru_finish)(g);
      }
    }
  }

  bool linear_before_reset_;
  size_t z_ = 0, r_ = 0;
};

}  // namespace

const abi::CustomOp* gru_op() {
  static const CustomOpOf<Gru> op;
  return &op;
}

}  // namespace deepthin
