// Fills ONNX Runtime's table of callbacks for an operator class.
#pragma once

#include "ort.h"

namespace deepthin {

// `Operator` has: name(), required_inputs, inputs, outputs, input_type(index), a constructor (const Ort&, const abi::KernelInfo*) and
// compute(abi::KernelContext*), which may throw.
template <typename Operator>
struct CustomOpOf : abi::CustomOp {
  struct Kernel {
    Ort ort;
    Operator op;
    Kernel(const abi::Api* api, const abi::KernelInfo* info) : ort{api}, op(ort, info) {}
  };

  CustomOpOf() : abi::CustomOp{} {
    version = abi::kApiVersion;
    GetName = [](const abi::CustomOp*) { return Operator::name(); };
    GetExecutionProviderType = [](const abi::CustomOp*) -> const char* { return nullptr; };
    GetInputType = [](const abi::CustomOp*, size_t index) { return Operator::input_type(index); };
    GetInputTypeCount = [](const abi::CustomOp*) { return Operator::inputs; };
    GetOutputType = [](const abi::CustomOp*, size_t) { return abi::kElementFloat; };
    GetOutputTypeCount = [](const abi::CustomOp*) { return Operator::outputs; };
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    GetInputCharacteristic = [](const abi::CustomOp*, size_t index) {
      return index < Operator::required_inputs ? abi::kRequired : abi::kOptional;
    };
    GetOutputCharacteristic = [](const abi::CustomOp*, size_t index) {
      return index == 0 ? abi::kRequired : abi::kOptional;
    };
    GetInputMemoryType = [](const abi::CustomOp*, size_t) { return abi::kMemoryDefault; };
    GetVariadicInputMinArity = [](const abi::CustomOp*) { return 1; };
    GetVariadicInputHomogeneity = [](const abi::CustomOp*) { return 1; };
    GetVariadicOutputMinArity = [](const abi::CustomOp*) { return 1; };
    GetVariadicOutputHomogeneity = [](const abi::CustomOp*) { return 1; };
    GetStartVersion = [](const abi::CustomOp*) { return 1; };
    GetEndVersion = [](const abi::CustomOp*) { return 1; };
    CreateKernelV2 = [](const abi::CustomOp*, const abi::Api* api, const abi::KernelInfo* info, void** kernel) {
      return Ort{api}.guard(Operator::name(), [&] { *kernel = new Kernel(api, info); });
    };
    KernelComputeV2 = [](void* kernel, abi::KernelContext* context) {
      Kernel* self = static_cast<Kernel*>(kernel);
      return self->ort.guard(Operator::name(), [&] { self->op.compute(context); });
    };
  }
};

}  // namespace deepthin
