// Connectionist temporal classification: the loss and its gradient (Graves et al., ICML 2006).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace deepthin::training {

// The negative log likelihood of one utterance. `log_probs` [frames][units] are natural logs, unit 0 the blank;
// `gradient`, of the same shape, gets the gradient with respect to them. A sequence that so few frames cannot hold has
// loss and gradient 0. Throws std::invalid_argument where a label is no unit but the blank.
double ctc(const Kernels& kernels, const float* log_probs, size_t frames, size_t units, const int64_t* labels,
           size_t count, float* gradient);

}  // namespace deepthin::training
