// C interface of training, for ctypes. Both functions return 0, or -1 with the reason in `error` (kErrorSize bytes).

#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>

#include "kernels.h"
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

// `dx` and `dbias` may be null, and `y` where there is no activation.
DEEPTHIN_TRAIN_API int32_t deepthin_train_backward(const Shape* shape, const float* Xf, const float* Wf,
                                                   const float* x, const float* y, const float* dy, int64_t rows,
                                                   float* dx, float* dXf, float* dWf, float* dbias, char* error) {
  return with_layer(shape, rows, error, [&](const Layer& layer, Activation activation, size_t threads) {
    layer.backward(Xf, Wf, activation, x, y, dy, size_t(rows), dx, dXf, dWf, dbias, threads);
  });
}
