// Runs the operators of a library without ONNX Runtime, one call of each shape between two of callgrind's dumps:
//   valgrind --tool=callgrind --instr-atstart=no ./driver libdeepthin_ops.so
// It stands in for the part of the runtime that ops/csrc/ort_abi.h declares, on one processor.
#include <dlfcn.h>
#include <valgrind/callgrind.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../ops/csrc/ort_abi.h"

// What the library asks for the number of processors: work is not shared out.
extern "C" int get_nprocs() { return 1; }

namespace deepthin::abi {

struct Status {
  std::string message;
};
struct Value {
  int type;
  std::vector<int64_t> shape;
  std::vector<char> bytes;
};
struct TensorInfo {
  const Value* value;
};
struct KernelInfo {
  std::map<std::string, int64_t> integers;
  std::vector<const Value*> inputs;  // the constants in their places, null elsewhere
};
struct KernelContext {
  std::vector<const Value*> inputs;
  std::vector<Value> outputs;
};
struct CustomOpDomain {
  std::map<std::string, const CustomOp*> ops;
};

}  // namespace deepthin::abi

namespace {

using namespace deepthin::abi;

CustomOpDomain domain;

Status* fail(const std::string& message) { return new Status{message}; }

void check(Status* status) {
  if (!status) return;
  std::fprintf(stderr, "%s\n", status->message.c_str());
  std::exit(1);
}

Api make_api() {
  Api api{};
  api.CreateStatus = [](int, const char* message) { return fail(message); };
  api.GetErrorMessage = [](const Status* status) { return status->message.c_str(); };
  api.ReleaseStatus = [](Status* status) { delete status; };
  api.CreateCustomOpDomain = [](const char*, CustomOpDomain** out) -> Status* { return *out = &domain, nullptr; };
  api.CustomOpDomain_Add = [](CustomOpDomain* to, const CustomOp* op) -> Status* {
    return to->ops[op->GetName(op)] = op, nullptr;
  };
  api.AddCustomOpDomain = [](SessionOptions*, CustomOpDomain*) -> Status* { return nullptr; };
  api.GetTensorMutableData = [](Value* value, void** out) -> Status* { return *out = value->bytes.data(), nullptr; };
  api.GetTensorTypeAndShape = [](const Value* value, TensorInfo** out) -> Status* {
    return *out = new TensorInfo{value}, nullptr;
  };
  api.ReleaseTensorTypeAndShapeInfo = [](TensorInfo* info) { delete info; };
  api.GetTensorElementType = [](const TensorInfo* info, int* out) -> Status* { return *out = info->value->type, nullptr; };
  api.GetDimensionsCount = [](const TensorInfo* info, size_t* out) -> Status* {
    return *out = info->value->shape.size(), nullptr;
  };
  api.GetDimensions = [](const TensorInfo* info, int64_t* out, size_t count) -> Status* {
    return std::memcpy(out, info->value->shape.data(), count * sizeof(int64_t)), nullptr;
  };
  api.KernelInfoGetAttribute_int64 = [](const KernelInfo* info, const char* name, int64_t* out) -> Status* {
    const auto found = info->integers.find(name);
    return found == info->integers.end() ? fail(name) : (*out = found->second, nullptr);
  };
  api.KernelInfoGetAttribute_string = [](const KernelInfo*, const char* name, char*, size_t*) { return fail(name); };
  api.KernelInfoGetConstantInput_tensor = [](const KernelInfo* info, size_t index, int* constant,
                                             const Value** out) -> Status* {
    *out = index < info->inputs.size() ? info->inputs[index] : nullptr;
    *constant = *out != nullptr;
    return nullptr;
  };
  api.KernelContext_GetInputCount = [](const KernelContext* context, size_t* out) -> Status* {
    return *out = context->inputs.size(), nullptr;
  };
  api.KernelContext_GetInput = [](const KernelContext* context, size_t index, const Value** out) -> Status* {
    return *out = context->inputs[index], nullptr;
  };
  api.KernelContext_GetOutput = [](KernelContext* context, size_t index, const int64_t* dims, size_t count,
                                   Value** out) -> Status* {
    Value& made = context->outputs[index];
    made.type = kElementFloat;
    made.shape.assign(dims, dims + count);
    size_t size = sizeof(float);
    for (const int64_t dim : made.shape) size *= size_t(dim);
    made.bytes.resize(size);
    *out = &made;
    return nullptr;
  };
  api.KernelContext_ParallelFor = [](const KernelContext*, void (*task)(void*, size_t), size_t total, size_t,
                                     void* data) -> Status* {
    for (size_t i = 0; i < total; ++i) task(data, i);
    return nullptr;
  };
  return api;
}

const Api api = make_api();
uint32_t state = 1;

uint32_t next_number() { return state = state * 1664525u + 1013904223u, state >> 8; }

template <typename T>
Value row(int type, const std::vector<int64_t>& shape, const std::vector<T>& values) {
  Value value{type, shape, std::vector<char>(values.size() * sizeof(T))};
  std::memcpy(value.bytes.data(), values.data(), value.bytes.size());
  return value;
}

Value floats(const std::vector<int64_t>& shape) {
  size_t count = 1;
  for (const int64_t size : shape) count *= size_t(size);
  std::vector<float> values(count);
  for (float& value : values) value = float(next_number()) / float(1 << 23) - 1.0f;
  return row(kElementFloat, shape, values);
}

Value bytes(size_t count) {
  std::vector<uint8_t> values(count);
  for (uint8_t& value : values) value = uint8_t(next_number());
  return row(kElementUint8, {int64_t(count)}, values);
}

// Counts the second call: the first one finds the working memory.
void count(const std::string& name, const char* op, const std::map<std::string, int64_t>& integers, const Value& x,
           const std::vector<Value>& constants) {
  const CustomOp* custom = domain.ops.at(op);
  KernelInfo info{integers, {nullptr}};
  KernelContext context{{&x}, std::vector<Value>(3)};
  for (const Value& value : constants) info.inputs.push_back(&value), context.inputs.push_back(&value);
  void* kernel = nullptr;
  check(custom->CreateKernelV2(custom, &api, &info, &kernel));
  check(custom->KernelComputeV2(kernel, &context));
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
  check(custom->KernelComputeV2(kernel, &context));
  CALLGRIND_DUMP_STATS_AT(name.c_str());
  CALLGRIND_STOP_INSTRUMENTATION;
  custom->KernelDestroy(kernel);
}

void products(int64_t Q, int64_t R, int64_t n, int64_t r, const std::map<std::string, int64_t>& more = {}) {
  for (const int64_t rows : {1, 16}) {
    std::map<std::string, int64_t> integers{{"Q", Q}, {"R", R}};
    integers.insert(more.begin(), more.end());
    std::string name = "DeepThinMatMul " + std::to_string(Q) + " x " + std::to_string(R) + ", n = " + std::to_string(n);
    if (r > 1) name += ", r = " + std::to_string(r);
    for (const auto& [attribute, value] : more) name += ", " + attribute;
    count(name + ", " + std::to_string(rows) + " rows", "DeepThinMatMul", integers, floats({rows, Q}),
          {floats({(Q * R + n - 1) / n, r}), floats({r, n})});
  }
}

void recurrent(const char* op, int64_t gates, int64_t batch) {
  const int64_t H = 256, steps = 20, n = 31, m = (gates * H * H + n - 1) / n;
  count(std::string(op) + " of 256, batch " + std::to_string(batch) + ", 20 steps", op,
        {{"hidden_size", H}, {"input_size", H}}, floats({steps, batch, H}),
        {floats({m, 1}), floats({1, n}), floats({m, 1}), floats({1, n})});
}

void stored(int64_t side) {
  const std::map<std::string, int64_t> shape{{"Q", side}, {"R", side}};
  const int64_t each = side / 10;
  std::vector<uint16_t> inputs;
  std::vector<int32_t> starts{0};
  for (int64_t c = 0; c < side; ++c) {
    for (int64_t i = 0; i < each; ++i) inputs.push_back(uint16_t(i * 10));
    starts.push_back(int32_t(inputs.size()));
  }
  const size_t entries = inputs.size();
  const Value places = row(kElementUint16, {int64_t(entries)}, inputs);
  const Value first = row(kElementInt32, {side + 1}, starts);
  std::vector<uint8_t> gaps((entries * 4 + 7) / 8, 0x77);
  Value codebook = floats({32});
  std::memset(codebook.bytes.data(), 0, sizeof(float));
  const auto with = [&](std::map<std::string, int64_t> more) { return more.insert(shape.begin(), shape.end()), more; };
  for (const int64_t rows : {1, 16}) {
    const Value x = floats({rows, side});
    const std::string end = ", " + std::to_string(rows) + " rows";
    count("CsrMatMul, a tenth" + end, "CsrMatMul", shape, x, {floats({int64_t(entries)}), places, first});
    for (const int64_t bits : {2, 3, 4, 8})
      count("CodebookMatMul, " + std::to_string(bits) + " bits" + end, "CodebookMatMul", with({{"bits", bits}}), x,
            {floats({int64_t(1) << bits}), bytes(size_t(side * side * bits / 8))});
    count("CodebookCsrMatMul, a tenth, 5 + 4 bits" + end, "CodebookCsrMatMul",
          with({{"value_bits", 5}, {"gap_bits", 4}}), x,
          {codebook, bytes((entries * 5 + 7) / 8), row(kElementUint8, {int64_t(gaps.size())}, gaps), first});
    count("HashedMatMul, an eighth" + end, "HashedMatMul", with({{"seed", 1}}), x, {floats({side * side / 8})});
  }
}

}  // namespace

int main(int, char** argv) {
  void* library = dlopen(argv[1], RTLD_NOW);
  if (!library) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  const ApiBase base{[](uint32_t) { return &api; }, [] { return "none"; }};
  const auto enter = reinterpret_cast<Status* (*)(SessionOptions*, const ApiBase*)>(dlsym(library, "RegisterCustomOps"));
  check(enter(nullptr, &base));
  products(1024, 1024, 53, 1);
  products(1024, 1024, 183, 1);
  products(1024, 1024, 487, 1);
  products(512, 768, 41, 2);
  products(256, 256, 31, 1, {{"shuffle", 1}});
  for (const int64_t batch : {1, 8}) {
    recurrent("DeepThinGRU", 3, batch);
    recurrent("DeepThinLSTM", 4, batch);
  }
  stored(512);
}
