// The part of ONNX Runtime's C ABI that this library uses, declared here because the runtime's wheels ship no headers.
// ONNX Runtime freezes the layout of every released version; `abi_check.cpp` compares this file with the real headers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deepthin::abi {

constexpr uint32_t kApiVersion = 18;
constexpr const char* kApiVersionName = "1.18";

constexpr int kFail = 1;
constexpr int kInvalidArgument = 2;
constexpr int kElementUndefined = 0;  // of an operator's input: any type
constexpr int kElementFloat = 1;
constexpr int kElementUint8 = 2;
constexpr int kElementInt8 = 3;
constexpr int kElementUint16 = 4;
constexpr int kElementInt32 = 6;
constexpr int kElementFloat16 = 10;
constexpr int kMemoryDefault = 0;
constexpr int kRequired = 0;
constexpr int kOptional = 1;

struct Status;
struct Value;
struct TensorInfo;
struct KernelInfo;
struct KernelContext;
struct SessionOptions;
struct CustomOpDomain;
struct ShapeInferContext;
struct CustomOp;

struct Api {
  Status* (*CreateStatus)(int code, const char* message);
  void* unused_1[1];
  const char* (*GetErrorMessage)(const Status*);
  void* unused_3[23];
  Status* (*CreateCustomOpDomain)(const char* name, CustomOpDomain** out);
  Status* (*CustomOpDomain_Add)(CustomOpDomain*, const CustomOp*);
  Status* (*AddCustomOpDomain)(SessionOptions*, CustomOpDomain*);
  void* unused_29[22];
  Status* (*GetTensorMutableData)(Value*, void** out);
  void* unused_52[8];
  Status* (*GetTensorElementType)(const TensorInfo*, int* out);
  Status* (*GetDimensionsCount)(const TensorInfo*, size_t* out);
  Status* (*GetDimensions)(const TensorInfo*, int64_t* out, size_t count);
  void* unused_63[2];
  Status* (*GetTensorTypeAndShape)(const Value*, TensorInfo** out);
  void* unused_66[20];
  Status* (*KernelInfoGetAttribute_int64)(const KernelInfo*, const char* name, int64_t* out);
  Status* (*KernelInfoGetAttribute_string)(const KernelInfo*, const char* name, char* out, size_t* size);
  Status* (*KernelContext_GetInputCount)(const KernelContext*, size_t* out);
  void* unused_89[1];
  Status* (*KernelContext_GetInput)(const KernelContext*, size_t index, const Value** out);
  Status* (*KernelContext_GetOutput)(KernelContext*, size_t index, const int64_t* dims, size_t count, Value** out);
  void* unused_92[1];
  void (*ReleaseStatus)(Status*);
  void* unused_94[5];
  void (*ReleaseTensorTypeAndShapeInfo)(TensorInfo*);
  void* unused_100[149];
  Status* (*KernelInfoGetConstantInput_tensor)(const KernelInfo*, size_t index, int* is_constant, const Value** out);
  void* unused_250[24];
  Status* (*KernelContext_ParallelFor)(const KernelContext*, void (*task)(void*, size_t), size_t total,
                                       size_t num_batch, void* user_data);
};

// Every slot used: its name and its index.
#define DEEPTHIN_ORT_SLOTS(SLOT)             \
  SLOT(CreateStatus, 0)                      \
  SLOT(GetErrorMessage, 2)                   \
  SLOT(CreateCustomOpDomain, 26)             \
  SLOT(CustomOpDomain_Add, 27)               \
  SLOT(AddCustomOpDomain, 28)                \
  SLOT(GetTensorMutableData, 51)             \
  SLOT(GetTensorElementType, 60)             \
  SLOT(GetDimensionsCount, 61)               \
  SLOT(GetDimensions, 62)                    \
  SLOT(GetTensorTypeAndShape, 65)            \
  SLOT(KernelInfoGetAttribute_int64, 86)     \
  SLOT(KernelInfoGetAttribute_string, 87)    \
  SLOT(KernelContext_GetInputCount, 88)      \
  SLOT(KernelContext_GetInput, 90)           \
  SLOT(KernelContext_GetOutput, 91)          \
  SLOT(ReleaseStatus, 93)                    \
  SLOT(ReleaseTensorTypeAndShapeInfo, 99)    \
  SLOT(KernelInfoGetConstantInput_tensor, 249) \
  SLOT(KernelContext_ParallelFor, 274)

#define DEEPTHIN_ORT_SLOT_AT(name, index) static_assert(offsetof(Api, name) == (index) * sizeof(void*), #name);
DEEPTHIN_ORT_SLOTS(DEEPTHIN_ORT_SLOT_AT)
#undef DEEPTHIN_ORT_SLOT_AT

struct ApiBase {
  const Api* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

struct CustomOp {
  uint32_t version;
  void* (*CreateKernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  int (*GetInputType)(const CustomOp*, size_t);
  size_t (*GetInputTypeCount)(const CustomOp*);
  int (*GetOutputType)(const CustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void*, KernelContext*);
  void (*KernelDestroy)(void*);
  int (*GetInputCharacteristic)(const CustomOp*, size_t);
  int (*GetOutputCharacteristic)(const CustomOp*, size_t);
  int (*GetInputMemoryType)(const CustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  Status* (*CreateKernelV2)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);
  Status* (*KernelComputeV2)(void*, KernelContext*);
  Status* (*InferOutputShapeFn)(const CustomOp*, ShapeInferContext*);
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
  size_t (*GetMayInplace)(int** input, int** output);
  void (*ReleaseMayInplace)(int* input, int* output);
  size_t (*GetAliasMap)(int** input, int** output);
  void (*ReleaseAliasMap)(int* input, int* output);
};

static_assert(sizeof(CustomOp) == 26 * sizeof(void*), "OrtCustomOp of API version 18");

}  // namespace deepthin::abi
