// C interface of training, for ctypes. Every function returns 0, or -1 with the reason in `error` (kErrorSize bytes).

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>

#include "kernels.h"
#include "training/crf.h"
#include "training/ctc.h"
#include "training/layer.h"

#define DEEPTHIN_TRAIN_API extern "C" __attribute__((visibility("default")))

namespace {

using deepthin::Activation;
using deepthin::training::Layer;

constexpr size_t kErrorSize = 256;

// A layer as the caller describes it.
struct Shape {
  int64_t Q, R, m, n, r;
  int32_t activation, threads;
};

template <typename Body>
int32_t with_layer(const Shape* shape, int64_t rows, char* error, const Body& body) {
  try {
    for (const int64_t value : {shape->Q, shape->R, shape->m, shape->n, shape->r, rows})
      if (value < 0) throw std::invalid_argument("no dimension can be negative");
    if (shape->activation < 0 || shape->activation > static_cast<int32_t>(Activation::kTanh))
      throw std::invalid_argument("unknown activation");
    const Layer layer(deepthin::choose_kernels(), size_t(shape->Q), size_t(shape->R), size_t(shape->m),
                      size_t(shape->n), size_t(shape->r));
    body(layer, static_cast<Activation>(shape->activation), size_t(shape->threads > 1 ? shape->threads : 1));
    return 0;
  } catch (const std::exception& problem) {
    std::snprintf(error, kErrorSize, "%s", problem.what());
    return -1;
  }
}

}  // namespace

// `bias` may be null.
DEEPTHIN_TRAIN_API int32_t deepthin_train_forward(const Shape* shape, const float* Xf, const float* Wf,
                                                  const float* bias, const float* x, int64_t rows, float* y,
                                                  char* error) {
  return with_layer(shape, rows, error, [&](const Layer& layer, Activation activation, size_t threads) {
    layer.forward(Xf, Wf, bias, activation, x, size_t(rows), y, threads);
  });
}

DEEPTHIN_TRAIN_API int32_t deepthin_train_transposed(const Shape* shape, const float* Xf, const float* Wf,
                                                     const float* dy, int64_t rows, float* dx, char* error) {
  return with_layer(shape, rows, error, [&](const Layer& layer, Activation, size_t threads) {
    layer.transposed(Xf, Wf, dy, size_t(rows), dx, threads);
  });
}

// `dx` and `dbias` may be null, and `y` where there is no activation.
DEEPTHIN_TRAIN_API int32_t deepthin_train_backward(const Shape* shape, const float* Xf, const float* Wf,
                                                   const float* x, const float* y, const float* dy, int64_t rows,
                                                   float* dx, float* dXf, float* dWf, float* dbias, char* error) {
  return with_layer(shape, rows, error, [&](const Layer& layer, Activation activation, size_t threads) {
    layer.backward(Xf, Wf, activation, x, y, dy, size_t(rows), dx, dXf, dWf, dbias, threads);
  });
}

// CTC losses of a batch: log_probs [batch][frames][units], of each utterance the first `lengths` frames; `labels` one
// sequence after the other. Writes `losses` [batch] and the gradient of their sum, of log_probs' shape.
DEEPTHIN_TRAIN_API int32_t deepthin_train_ctc(const float* log_probs, int64_t batch, int64_t frames, int64_t units,
                                              const int64_t* lengths, const int64_t* labels,
                                              const int64_t* label_lengths, double* losses, float* gradient,
                                              char* error) {
  try {
    const deepthin::Kernels& kernels = deepthin::choose_kernels();
    for (int64_t i = 0; i < batch; ++i) {
      if (lengths[i] < 0 || lengths[i] > frames || label_lengths[i] < 0)
        throw std::invalid_argument("a length is negative or above the number of frames");
      float* to = gradient + i * frames * units;
      losses[i] = deepthin::training::ctc(kernels, log_probs + i * frames * units, size_t(lengths[i]), size_t(units),
                                          labels, size_t(label_lengths[i]), to);
      std::fill(to + lengths[i] * units, to + frames * units, 0.0f);
      labels += label_lengths[i];
    }
    return 0;
  } catch (const std::exception& problem) {
    std::snprintf(error, kErrorSize, "%s", problem.what());
    return -1;
  }
}

// Log weights of all CTC-CRF paths of a batch, and the gradient of their sum. `lengths` as above; `probabilities`
// [units][units][units].
DEEPTHIN_TRAIN_API int32_t deepthin_train_crf(const float* log_probs, int64_t batch, int64_t frames, int64_t units,
                                              const int64_t* lengths, const float* probabilities, double* weights,
                                              float* gradient, char* error) {
  try {
    if (units < 1) throw std::invalid_argument("no units");
    const deepthin::training::Normaliser normaliser(deepthin::choose_kernels(), probabilities, size_t(units));
    for (int64_t i = 0; i < batch; ++i) {
      if (lengths[i] < 0 || lengths[i] > frames)
        throw std::invalid_argument("a length is negative or above the number of frames");
      float* to = gradient + i * frames * units;
      weights[i] = normaliser(log_probs + i * frames * units, size_t(lengths[i]), to);
      std::fill(to + lengths[i] * units, to + frames * units, 0.0f);
    }
    return 0;
  } catch (const std::exception& problem) {
    std::snprintf(error, kErrorSize, "%s", problem.what());
    return -1;
  }
}
