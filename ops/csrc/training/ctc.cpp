#include "training/ctc.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "training/steps.h"

namespace deepthin::training {
namespace {

constexpr float kNever = -1e30f;
constexpr double kImpossible = -1e29;
constexpr float kLeast = -1e9f;  // a log probability of minus infinity
constexpr size_t kMargin = 2;  // states are read up to two away

}  // namespace

double ctc(const Kernels& kernels, const float* log_probs, size_t frames, size_t units, const int64_t* labels,
           size_t count, float* gradient) {
  std::fill_n(gradient, frames * units, 0.0f);
  for (size_t i = 0; i < count; ++i)
    if (labels[i] < 1 || labels[i] >= int64_t(units)) throw std::invalid_argument("a label is no unit but the blank");
  if (!frames) return 0;
  const Steps& steps = *kernels.training;
  const size_t states = 2 * count + 1, width = round_up(states, kernels.lanes), stride = width + 2 * kMargin;
  std::vector<float> skip(stride, kNever), emitted(width, kNever), posteriors(width);
  for (size_t i = 1; i < count; ++i)
    if (labels[i] != labels[i - 1]) skip[2 * i + 1] = 0;
  const auto emit = [&](size_t t) {
    const float* row = log_probs + t * units;
    for (size_t s = 0; s < states; s += 2) emitted[s] = std::max(row[0], kLeast);
    for (size_t i = 0; i < count; ++i) emitted[2 * i + 1] = std::max(row[labels[i]], kLeast);
  };

  // Frame by frame relative to the best state of the frame before; before the first frame only the first state is.
  std::vector<float> forward((frames + 1) * stride, kNever);
  float* row = forward.data() + kMargin;
  row[0] = 0;
  double offset = 0;
  float shift = 0;
  for (size_t t = 0; t < frames; ++t, row += stride) {
    emit(t);
    offset += shift;
    shift = steps.ctc_states(row, -1, skip.data(), emitted.data(), t ? shift : 0, width, row + stride);
  }
  const double last = row[states - 1], before = states > 1 ? row[states - 2] : kNever;
  const double likelihood = std::max(last, before) + std::log1p(std::exp(-std::abs(last - before))) + offset;
  if (std::isnan(likelihood)) {
    std::fill_n(gradient, frames * units, float(likelihood));
    return likelihood;
  }
  if (likelihood < kImpossible) return 0;

  std::vector<float> backward(2 * stride, kNever);
  float *from = backward.data() + kMargin, *to = from + stride;
  from[states - 1] = 0;
  shift = 0;
  for (size_t t = frames; t-- > 0; row -= stride) {
    emit(t);
    shift = steps.ctc_states(from, 1, skip.data() + kMargin, emitted.data(), shift, width, to);
    const float sum = steps.ctc_posteriors(row, to, emitted.data(), width, posteriors.data());
    std::swap(from, to);
    float* target = gradient + t * units;
    float blank = 0;
    for (size_t s = 0; s < states; s += 2) blank += posteriors[s];
    for (size_t i = 0; i < count; ++i) target[labels[i]] -= posteriors[2 * i + 1] / sum;
    target[0] = -blank / sum;
  }
  return -likelihood;
}

}  // namespace deepthin::training
