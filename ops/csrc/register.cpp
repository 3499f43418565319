#include <mutex>
#include <string>

#include "kernels.h"
#include "ops.h"
#include "ort_abi.h"

#define DEEPTHIN_EXPORT extern "C" __attribute__((visibility("default")))

using namespace deepthin;

// Called by ONNX Runtime when the library is registered with a session's options.
DEEPTHIN_EXPORT abi::Status* RegisterCustomOps(abi::SessionOptions* options, const abi::ApiBase* base) {
  const abi::Api* api = base->GetApi(abi::kApiVersion);
  if (!api) {
    const std::string message = "the DeepThin operators need ONNX Runtime " + std::string(abi::kApiVersionName) +
                                " or newer, and this is " + base->GetVersionString();
    // CreateStatus is the first slot of every version.
    return base->GetApi(1)->CreateStatus(abi::kFail, message.c_str());
  }
  // Sessions refer to the domain for as long as they live: it is made once and never released.
  static std::mutex mutex;
  static abi::CustomOpDomain* domain = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  if (!domain) {
    abi::CustomOpDomain* made = nullptr;
    if (abi::Status* status = api->CreateCustomOpDomain("deepthin", &made)) return status;
    for (const abi::CustomOp* op :
         {matmul_op(), gru_op(), lstm_op(), csr_op(), codebook_op(), codebook_csr_op(), hashed_op()})
      if (abi::Status* status = api->CustomOpDomain_Add(made, op)) return status;
    domain = made;
  }
  return api->AddCustomOpDomain(options, domain);
}

// The version of the package that this library was built with.
DEEPTHIN_EXPORT const char* deepthin_ops_version() { return DEEPTHIN_VERSION; }

// The instruction sets that can run here, best first, separated by commas.
DEEPTHIN_EXPORT const char* deepthin_ops_available() { return available_kernels(); }

// The instruction set that the next session will use, or null where DEEPTHIN_OPS_ISA names none that can run here.
DEEPTHIN_EXPORT const char* deepthin_ops_isa() {
  try {
    return choose_kernels().name;
  } catch (...) {
    return nullptr;
  }
}
