#pragma once

#include "ort_abi.h"

namespace deepthin {

const abi::CustomOp* matmul_op();
const abi::CustomOp* gru_op();

}  // namespace deepthin
