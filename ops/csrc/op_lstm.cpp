#include "ops.h"
#include "recurrent.h"

namespace deepthin {
namespace {

class Lstm : Recurrent {
 public:
  static const char* name() { return "DeepThinLSTM"; }
  static constexpr size_t required_inputs = 5, inputs = 8, outputs = 3;
  using Recurrent::input_type;

  Lstm(const Ort& ort, const abi::KernelInfo* info) : Recurrent(ort, info, 4) {
    const std::string order = ort.text(info, "gate_order", "iofc");
    if (order != "iofc" && order != "ifco") throw std::invalid_argument("gate_order must be iofc or ifco, not " + order);
    const auto place = [&](char gate) { return order.find(gate) * H_; };
    i_ = place('i');
    o_ = place('o');
    f_ = place('f');
    c_ = place('c');
  }

  void compute(abi::KernelContext* context) const {
    const Call call = read(context);
    const size_t size = call.batch * H_;
    const float* initial = initial_state(context, 7, "initial_c", call.batch);
    float* cells = ort_.output(context, 2, {int64_t(call.batch), int64_t(H_)});
    // The cells live where the last ones are wanted.
    ScratchPool::Buffer buffer(recurrent_.pool(), cells ? 0 : ScratchPool::Buffer::rounded(size));
    if (!cells) cells = buffer.take(size);
    if (initial)
      std::copy_n(initial, size, cells);
    else
      std::fill_n(cells, size, 0.0f);
    run(call, [&](const Part& part) { recur(call, part, cells + part.first * H_); });
  }

 private:
  void recur(const Call& call, const Part& part, float* cells) const {
    const auto rounded = ScratchPool::Buffer::rounded;
    const size_t count = part.count, scratch_floats = recurrent_.scratch_floats(count);
    ScratchPool::Buffer buffer(recurrent_.pool(), rounded(count * width_) + rounded(scratch_floats));
    float* gates = buffer.take(count * width_);
    float* scratch = buffer.take(scratch_floats);
    const Epilogue bias{call.recurrent_bias, Activation::kNone};
    const Rows<float> gate_rows{gates, 1, width_, 0};
    for (size_t t = part.from; t < part.from + part.steps; ++t) {
      recurrent_.multiply_here(call.recurrent, states(call, t, part.first), 0, count, bias, gate_rows, scratch);
      for (size_t i = 0; i < count; ++i) {
        const float *g = projection(call, part, t, i), *u = gate_rows[i];
        gate_kernels().lstm_step({H_, g + i_, g + o_, g + f_, g + c_, u + i_, u + o_, u + f_, u + c_, cells + i * H_,
                                  state_after(call, part, t, i)});
      }
    }
  }

  size_t i_, o_, f_, c_;
};

}  // namespace

const abi::CustomOp* lstm_op() {
  static const CustomOpOf<Lstm> op;
  return &op;
}

}  // namespace deepthin
