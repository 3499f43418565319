// Compiled only where ORT_INCLUDE_DIR names ONNX Runtime's real headers: `ort_abi.h` must agree with them.
#include <type_traits>

#include "onnxruntime_c_api.h"
#include "ort_abi.h"

namespace abi = deepthin::abi;

#define SAME_SLOT(name, index) \
  static_assert(offsetof(OrtApi, name) == offsetof(abi::Api, name), "OrtApi::" #name " is not slot " #index);
DEEPTHIN_ORT_SLOTS(SAME_SLOT)

// The number of parameters of a function pointer: a slot that keeps its place but changes its signature is caught too.
template <typename T>
struct Arity;
template <typename R, typename... A>
struct Arity<R (*)(A...)> : std::integral_constant<size_t, sizeof...(A)> {};
template <typename R, typename... A>
struct Arity<R (*)(A...) noexcept> : std::integral_constant<size_t, sizeof...(A)> {};
#define SAME_ARITY(name, index)                                                             \
  static_assert(Arity<decltype(OrtApi::name)>::value == Arity<decltype(abi::Api::name)>::value, \
                "OrtApi::" #name " takes other parameters");
DEEPTHIN_ORT_SLOTS(SAME_ARITY)

static_assert(ORT_API_VERSION >= abi::kApiVersion, "the headers are older than the version asked for");
static_assert(offsetof(OrtApiBase, GetApi) == offsetof(abi::ApiBase, GetApi), "OrtApiBase::GetApi");
static_assert(offsetof(OrtApiBase, GetVersionString) == offsetof(abi::ApiBase, GetVersionString), "GetVersionString");

#define SAME_MEMBER(name) \
  static_assert(offsetof(OrtCustomOp, name) == offsetof(abi::CustomOp, name), "OrtCustomOp::" #name);
SAME_MEMBER(version)
SAME_MEMBER(CreateKernel)
SAME_MEMBER(GetName)
SAME_MEMBER(GetExecutionProviderType)
SAME_MEMBER(GetInputType)
SAME_MEMBER(GetInputTypeCount)
SAME_MEMBER(GetOutputType)
SAME_MEMBER(GetOutputTypeCount)
SAME_MEMBER(KernelCompute)
SAME_MEMBER(KernelDestroy)
SAME_MEMBER(GetInputCharacteristic)
SAME_MEMBER(GetOutputCharacteristic)
SAME_MEMBER(GetInputMemoryType)
SAME_MEMBER(GetVariadicInputMinArity)
SAME_MEMBER(GetVariadicInputHomogeneity)
SAME_MEMBER(GetVariadicOutputMinArity)
SAME_MEMBER(GetVariadicOutputHomogeneity)
SAME_MEMBER(CreateKernelV2)
SAME_MEMBER(KernelComputeV2)
SAME_MEMBER(InferOutputShapeFn)
SAME_MEMBER(GetStartVersion)
SAME_MEMBER(GetEndVersion)
SAME_MEMBER(GetMayInplace)
SAME_MEMBER(ReleaseMayInplace)
SAME_MEMBER(GetAliasMap)
SAME_MEMBER(ReleaseAliasMap)
static_assert(sizeof(OrtCustomOp) >= sizeof(abi::CustomOp), "OrtCustomOp shrank");

static_assert(ORT_FAIL == abi::kFail, "ORT_FAIL");
static_assert(ORT_INVALID_ARGUMENT == abi::kInvalidArgument, "ORT_INVALID_ARGUMENT");
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED == abi::kElementUndefined, "element type");
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT == abi::kElementFloat, "element type");
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 == abi::kElementUint8, "element type");
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16 == abi::kElementUint16, "element type");
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 == abi::kElementInt32, "element type");
static_assert(OrtMemTypeDefault == abi::kMemoryDefault, "memory type");
static_assert(INPUT_OUTPUT_REQUIRED == abi::kRequired, "required");
static_assert(INPUT_OUTPUT_OPTIONAL == abi::kOptional, "optional");
static_assert(sizeof(ONNXTensorElementDataType) == sizeof(int) && sizeof(OrtErrorCode) == sizeof(int), "enum width");
