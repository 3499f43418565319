// The normaliser of CTC-CRF: all CTC paths of all unit sequences, weighted by a trigram model (Xiang and Ou, ICASSP 2019).
#pragma once

#include <cstddef>
#include <vector>

#include "kernels.h"

namespace deepthin::training {

class Normaliser {
 public:
  // `probabilities` [units][units][units]: of unit c after a and b; unit 0 is the start as a and b and the end as c.
  Normaliser(const Kernels& kernels, const float* probabilities, size_t units);

  // The log of the weight of all paths of one utterance. `log_probs` [frames][units] are natural logs, unit 0 the blank;
  // `shares`, of the same shape, gets each unit's share of the weight in every frame, which is the gradient.
  double operator()(const float* log_probs, size_t frames, float* shares) const;

 private:
  const Kernels& kernels_;
  size_t units_, width_;
  // Per unit b: of c after a at [a][c] and, the other way round, at [c][a]; of b after a and b; of the end after a and b.
  std::vector<float> onward_, back_, again_, final_;
};

}  // namespace deepthin::training
