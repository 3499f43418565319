#pragma once

#include "ort_abi.h"

namespace deepthin {

const abi::CustomOp* matmul_op();
const abi::CustomOp* gru_op();
const abi::CustomOp* lstm_op();
const abi::CustomOp* csr_op();
const abi::CustomOp* codebook_op();
const abi::CustomOp* codebook_csr_op();
const abi::CustomOp* hashed_op();

}  // namespace deepthin
