#include "training/crf.h"

#include <algorithm>
#include <cmath>

#include "training/steps.h"

namespace deepthin::training {

// A state is the last two units (a, b), kept at [b][a], and whether a blank came after them.
Normaliser::Normaliser(const Kernels& kernels, const float* probabilities, size_t units)
    : kernels_(kernels),
      units_(units),
      width_(round_up(units, kernels.lanes)),
      onward_(units * units * width_),
      back_(units * units * width_),
      again_(units * width_),
      final_(units * width_) {
  for (size_t a = 0; a < units; ++a)
    for (size_t b = 0; b < units; ++b) {
      const float* row = probabilities + (a * units + b) * units;
      final_[b * width_ + a] = row[0];
      again_[b * width_ + a] = b ? row[b] : 0;
      for (size_t c = 1; c < units; ++c) {
        onward_[(b * units + a) * width_ + c] = row[c];
        back_[(b * units + c) * width_ + a] = row[c];
      }
    }
}

double Normaliser::operator()(const float* log_probs, size_t frames, float* shares) const {
  if (!frames) return std::log(double(final_[0]));
  const Steps& steps = *kernels_.training;
  const size_t states = units_ * width_;
  std::vector<float> emitted(frames * units_), labels((frames + 1) * states), blanks((frames + 1) * states);
  std::vector<float> both(states), moved(states);
  for (size_t i = 0; i < emitted.size(); ++i) emitted[i] = std::exp(log_probs[i]);
  blanks[0] = 1;
  double log_weight = 0;
  for (size_t t = 0; t < frames; ++t) {
    const float *label = &labels[t * states], *blank = &blanks[t * states], *now = &emitted[t * units_];
    float *next_label = &labels[(t + 1) * states], *next_blank = &blanks[(t + 1) * states];
    for (size_t i = 0; i < states; ++i) both[i] = label[i] + blank[i];
    steps.crf_histories(both.data(), onward_.data(), units_, width_, moved.data());
    float sum = 0;
    for (size_t b = 0; b < units_; ++b) {
      // After b itself, another b needs a blank between.
      float straight = 0;
      for (size_t a = 0; a < units_; ++a) straight += label[b * width_ + a] * again_[b * width_ + a];
      moved[b * width_ + b] -= straight;
    }
    for (size_t b = 0; b < units_; ++b)
      for (size_t a = 0; a < units_; ++a) {
        const size_t i = b * width_ + a;
        next_label[i] = (label[i] + std::max(moved[a * width_ + b], 0.0f)) * now[b];
        next_blank[i] = both[i] * now[0];
        sum += next_label[i] + next_blank[i];
      }
    for (size_t i = 0; i < states; ++i) next_label[i] /= sum, next_blank[i] /= sum;
    log_weight += std::log(double(sum));
  }

  std::vector<float> after_label = final_, after_blank = final_, reached(states);
  double ended = 0;
  for (size_t i = 0, end = frames * states; i < states; ++i)
    ended += double(final_[i]) * (labels[end + i] + blanks[end + i]);
  for (size_t t = frames; t-- > 0;) {
    const float *label = &labels[(t + 1) * states], *blank = &blanks[(t + 1) * states], *now = &emitted[t * units_];
    float* share = shares + t * units_;
    double total = 0;
    share[0] = 0;
    for (size_t b = 0; b < units_; ++b) {
      float of_label = 0, of_blank = 0;
      for (size_t i = b * width_; i < (b + 1) * width_; ++i) {
        of_label += label[i] * after_label[i];
        of_blank += blank[i] * after_blank[i];
      }
      if (b) share[b] = of_label;
      share[0] += of_blank;
      total += double(of_label) + of_blank;
    }
    for (size_t c = 0; c < units_; ++c) share[c] = float(share[c] / total);
    // One frame back: `reached` at [b][c], the weight after c was said with b before it.
    for (size_t b = 0; b < units_; ++b)
      for (size_t c = 0; c < units_; ++c) reached[b * width_ + c] = after_label[c * width_ + b] * now[c];
    steps.crf_histories(reached.data(), back_.data(), units_, width_, moved.data());
    float largest = 0;
    for (size_t b = 0; b < units_; ++b)
      for (size_t a = 0; a < units_; ++a) {
        const size_t i = b * width_ + a;
        const float onward = moved[i] + after_blank[i] * now[0];
        const float straight = reached[b * width_ + b] * again_[i];
        after_label[i] = std::max(onward - straight, 0.0f) + after_label[i] * now[b];
        after_blank[i] = onward;
        largest = std::max(largest, std::max(after_label[i], onward));
      }
    for (size_t i = 0; i < states; ++i) after_label[i] /= largest, after_blank[i] /= largest;
  }
  return log_weight + std::log(ended);
}

}  // namespace deepthin::training
