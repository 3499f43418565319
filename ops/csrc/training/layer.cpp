#include "training/layer.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>

#include "scratch.h"

namespace deepthin::training {
namespace {

// Panels worked on together: more of them read the factors less often, fewer keep the offsets in the second-level cache.
constexpr size_t kPanels = 2;
constexpr size_t kMaxRows = 2 * 16 * kPanels;

ScratchPool& pool() {
  static const std::shared_ptr<ScratchPool> held = ScratchPool::shared();
  return *held;
}

// Runs body(slice, first, last) over [0, rows) in at most `threads` slices that are multiples of `step`.
template <typename Body>
void sliced(size_t threads, size_t rows, size_t step, const Body& body) {
  const size_t steps = chunks_of(rows, step), slices = std::max<size_t>(1, std::min(threads, steps));
  const auto bound = [&](size_t slice) { return std::min(rows, steps * slice / slices * step); };
  std::vector<std::exception_ptr> errors(slices);
  std::vector<std::thread> workers;
  const auto run = [&](size_t slice) {
    try {
      body(slice, bound(slice), bound(slice + 1));
    } catch (...) {
      errors[slice] = std::current_exception();
    }
  };
  for (size_t slice = 1; slice < slices; ++slice) workers.emplace_back(run, slice);
  run(0);
  for (std::thread& worker : workers) worker.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

// Panels of `indices` values with zeros before and after them.
Panels padded_panels(ScratchPool::Buffer& buffer, size_t indices, size_t width) {
  const size_t stride = (indices + 2 * kBlock) * width;
  float* data = buffer.take(kPanels * stride);
  for (size_t panel = 0; panel < kPanels; ++panel) {
    float* start = data + panel * stride;
    std::fill_n(start, kBlock * width, 0.0f);
    std::fill_n(start + (kBlock + indices) * width, kBlock * width, 0.0f);
  }
  return {data + kBlock * width, stride, kPanels};
}

Panels plain_panels(ScratchPool::Buffer& buffer, size_t indices, size_t width) {
  return {buffer.take(kPanels * indices * width), indices * width, kPanels};
}

// `width` pointers to rows from `first` on; those past `last` point to `filler`.
template <typename T>
void row_pointers(T* matrix, size_t columns, size_t first, size_t last, T* filler, size_t count, T** rows) {
  for (size_t i = 0; i < count; ++i) rows[i] = first + i < last ? matrix + (first + i) * columns : filler;
}

}  // namespace

struct Layer::Sums {
  std::vector<float> factors, taps, bias;
};

Layer::Layer(const Kernels& kernels, size_t Q, size_t R, size_t m, size_t n, size_t r)
    : steps_(*kernels.training), lanes_(kernels.lanes), m_(m), r_(r) {
  if (!Q || !R || !m || !n || !r) throw std::invalid_argument("Q, R, m, n and r must all be at least 1");
  if (std::max({Q, R, m, n, r}) >> 31) throw std::invalid_argument("Q, R, m, n and r must be below 2^31");
  if (m * n < Q * R)
    throw std::invalid_argument("factors of " + std::to_string(m) + " x " + std::to_string(n) +
                                " values cannot fill a " + std::to_string(Q) + " x " + std::to_string(R) + " matrix");
  const size_t period = n / std::gcd(n, Q), offsets = Q + n - 1;
  for (size_t c = 0; c < std::min(R, period); ++c) {
    const size_t phase = n - 1 - c * Q % n;
    Phase p{phase, c, chunks_of(R - c, period), chunks_of(offsets - phase, n), factors_, gradients_, 0};
    p.padded = round_up(p.count, lanes_);
    factors_ += p.outputs * p.count;
    gradients_ += p.outputs * p.padded;
    padded_ = std::max(padded_, p.padded);
    phases_.push_back(p);
  }
  layout_ = {Q, R, n, period, phases_.data(), phases_.size()};
}

std::vector<float> Layer::packed(const float* Xf, bool transposed) const {
  std::vector<float> packed;
  packed.reserve(r_ * factors_);
  for (size_t j = 0; j < r_; ++j)
    for (const Phase& p : phases_) {
      const float* start = Xf + p.first * layout_.Q / layout_.n * r_ + j;
      const size_t step = layout_.period * layout_.Q / layout_.n;  // rows of Xf between outputs of a phase
      const size_t rows = transposed ? p.count : p.outputs, depth = transposed ? p.outputs : p.count;
      const size_t tiles = chunks_of(rows, kTile);
      for (size_t i = 0; i < tiles; ++i)
        for (size_t k = 0; k < depth; ++k)
          for (size_t s = rows * i / tiles; s < rows * (i + 1) / tiles; ++s)
            packed.push_back(start[(transposed ? k * step + s : s * step + k) * r_]);
    }
  return packed;
}

std::vector<float> Layer::reversed(const float* Wf) const {
  const size_t n = layout_.n;
  std::vector<float> taps(Wf, Wf + r_ * n);
  for (size_t j = 0; j < r_; ++j) std::reverse(taps.begin() + j * n, taps.begin() + (j + 1) * n);
  return taps;
}

// Offsets that no output reads are left alone by what writes the others.
void Layer::clear(const Panels& offsets, size_t panels) const {
  for (size_t i = 0; i < panels; ++i)
    std::fill_n(offsets.data + i * offsets.stride, layout_.offsets() * 2 * lanes_, 0.0f);
}

// Panels of `columns` values, as `count` rows of `dx` from `first` on.
void Layer::store(const Panels& panels, size_t columns, size_t first, size_t count, float* dx) const {
  const size_t width = 2 * lanes_, used = chunks_of(count, width);
  float* results[kMaxRows];
  row_pointers(dx, columns, first, first + count, dx, used * width, results);
  for (size_t i = 0; i < used; ++i)
    steps_.store_panel(panels.data + i * panels.stride, columns, nullptr, Activation::kNone, results + i * width,
                       std::min(width, count - i * width));
}

void Layer::forward(const float* Xf, const float* Wf, const float* bias, Activation activation, const float* x,
                    size_t rows, float* y, size_t threads) const {
  if (!rows) return;
  const std::vector<float> factors = packed(Xf, false);
  sliced(threads, rows, 2 * lanes_ * kPanels, [&](size_t, size_t first, size_t last) {
    forward_rows(factors.data(), Wf, bias, activation, x, first, last, y);
  });
}

void Layer::forward_rows(const float* packed, const float* Wf, const float* bias, Activation activation,
                         const float* x, size_t first, size_t last, float* y) const {
  const size_t Q = layout_.Q, R = layout_.R, width = 2 * lanes_;
  const auto rounded = ScratchPool::Buffer::rounded;
  ScratchPool::Buffer buffer(pool(), rounded(kPanels * (Q + 2 * kBlock) * width) +
                                         rounded(kPanels * (layout_.offsets() + 2 * kBlock) * width) +
                                         rounded(kPanels * R * width));
  const Panels input = padded_panels(buffer, Q, width);
  Panels offsets = padded_panels(buffer, layout_.offsets(), width), output = plain_panels(buffer, R, width);
  for (; first < last; first += kPanels * width) {
    const size_t count = std::min(last - first, kPanels * width), panels = chunks_of(count, width);
    offsets.count = output.count = panels;
    const float* rows[kMaxRows];
    row_pointers(x, Q, first, last, x + first * Q, panels * width, rows);
    for (size_t i = 0; i < panels; ++i) steps_.load_panel(rows + i * width, Q, input.data + i * input.stride);
    for (size_t j = 0; j < r_; ++j) {
      for (size_t i = 0; i < panels; ++i)
        steps_.correlate(layout_, Wf + j * layout_.n, input.data + i * input.stride,
                           offsets.data + i * offsets.stride);
      steps_.band(layout_, packed + j * factors_, offsets, j > 0, output);
    }
    float* results[kMaxRows];
    row_pointers(y, R, first, last, y, panels * width, results);
    for (size_t i = 0; i < panels; ++i)
      steps_.store_panel(output.data + i * output.stride, R, bias, activation, results + i * width,
                           std::min(width, count - i * width));
  }
}

void Layer::backward(const float* Xf, const float* Wf, Activation activation, const float* x, const float* y,
                     const float* dy, size_t rows, float* dx, float* dXf, float* dWf, float* dbias,
                     size_t threads) const {
  const size_t n = layout_.n, R = layout_.R, step = 2 * lanes_ * kPanels;
  std::vector<Sums> sums(std::max<size_t>(1, std::min(threads, chunks_of(rows, step))));
  for (Sums& sum : sums) {
    sum.factors.resize(r_ * gradients_);
    sum.taps.resize(r_ * n * lanes_);
    sum.bias.resize(R);
  }
  if (rows) {
    const std::vector<float> factors = packed(Xf, true);
    const std::vector<float> taps = reversed(Wf);
    sliced(threads, rows, step, [&](size_t slice, size_t first, size_t last) {
      backward_rows(factors.data(), taps.data(), Wf, activation, x, y, dy, first, last, dx, sums[slice]);
    });
  }
  // The slices in order: the same sums for the same number of threads.
  std::fill_n(dXf, m_ * r_, 0.0f);
  std::fill_n(dWf, r_ * n, 0.0f);
  if (dbias) std::fill_n(dbias, R, 0.0f);
  for (const Sums& sum : sums) {
    for (size_t j = 0; j < r_; ++j) {
      for (const Phase& p : phases_)
        for (size_t s = 0; s < p.outputs; ++s) {
          const float* from = sum.factors.data() + j * gradients_ + p.gradient + s * p.padded;
          float* to = dXf + (p.first + s * layout_.period) * layout_.Q / n * r_ + j;
          for (size_t k = 0; k < p.count; ++k) to[k * r_] += from[k];
        }
      for (size_t t = 0; t < n; ++t) {
        const float* from = sum.taps.data() + (j * n + t) * lanes_;
        dWf[j * n + n - 1 - t] += std::accumulate(from, from + lanes_, 0.0f);
      }
    }
    if (dbias)
      for (size_t c = 0; c < R; ++c) dbias[c] += sum.bias[c];
  }
}

void Layer::backward_rows(const float* packed, const float* taps, const float* Wf, Activation activation,
                          const float* x, const float* y, const float* dy, size_t first, size_t last, float* dx,
                          Sums& sums) const {
  const size_t Q = layout_.Q, R = layout_.R, n = layout_.n, width = 2 * lanes_;
  const auto rounded = ScratchPool::Buffer::rounded;
  const size_t turned_size = kPanels * width * padded_;
  // With one rank nothing reads the outputs' gradients any more when those of the inputs are written.
  const size_t shared = r_ == 1 && dx ? std::max(Q, R) : R, own = r_ > 1 && dx ? Q : 0;
  ScratchPool::Buffer buffer(pool(), rounded(kPanels * (Q + 2 * kBlock) * width) +
                                         rounded(kPanels * (layout_.offsets() + 2 * kBlock) * width) +
                                         rounded(kPanels * shared * width) + rounded(kPanels * own * width) +
                                         rounded(turned_size) + rounded(std::max(Q, R)));
  const Panels input = padded_panels(buffer, Q, width);
  Panels offsets = padded_panels(buffer, layout_.offsets(), width), gradient = plain_panels(buffer, shared, width);
  const Panels back = own ? plain_panels(buffer, own, width) : gradient;
  float* turned = buffer.take(turned_size);
  float* zeros = buffer.take(std::max(Q, R));
  std::fill_n(zeros, std::max(Q, R), 0.0f);
  for (; first < last; first += kPanels * width) {
    const size_t count = std::min(last - first, kPanels * width), panels = chunks_of(count, width);
    offsets.count = gradient.count = panels;
    const float *rows[kMaxRows], *outputs[kMaxRows];
    row_pointers<const float>(x, Q, first, last, zeros, panels * width, rows);
    for (size_t i = 0; i < panels; ++i) steps_.load_panel(rows + i * width, Q, input.data + i * input.stride);
    row_pointers<const float>(dy, R, first, last, zeros, panels * width, rows);
    row_pointers<const float>(activation == Activation::kNone ? dy : y, R, first, last, zeros, panels * width, outputs);
    for (size_t i = 0; i < panels; ++i)
      steps_.load_gradient(rows + i * width, outputs + i * width, activation, R, sums.bias.data(),
                             gradient.data + i * gradient.stride);
    for (size_t j = 0; j < r_; ++j) {
      for (size_t i = 0; i < panels; ++i)
        steps_.correlate(layout_, Wf + j * n, input.data + i * input.stride, offsets.data + i * offsets.stride);
      steps_.band_gradient(layout_, gradient, offsets, turned, sums.factors.data() + j * gradients_);
      if (phases_.size() < n) clear(offsets, panels);
      steps_.band_transposed(layout_, packed + j * factors_, gradient, offsets);
      for (size_t i = 0; i < panels; ++i) {
        const float* from = offsets.data + i * offsets.stride;
        steps_.taps_gradient(layout_, input.data + i * input.stride, from, sums.taps.data() + j * n * lanes_);
        if (dx) steps_.spread(layout_, taps + j * n, from, j > 0, back.data + i * back.stride);
      }
    }
    if (dx) store(back, Q, first, count, dx);
  }
}

void Layer::transposed(const float* Xf, const float* Wf, const float* dy, size_t rows, float* dx,
                       size_t threads) const {
  if (!rows) return;
  const std::vector<float> factors = packed(Xf, true), taps = reversed(Wf);
  sliced(threads, rows, 2 * lanes_ * kPanels, [&](size_t, size_t first, size_t last) {
    transposed_rows(factors.data(), taps.data(), dy, first, last, dx);
  });
}

void Layer::transposed_rows(const float* packed, const float* taps, const float* dy, size_t first, size_t last,
                            float* dx) const {
  const size_t Q = layout_.Q, R = layout_.R, n = layout_.n, width = 2 * lanes_;
  const auto rounded = ScratchPool::Buffer::rounded;
  ScratchPool::Buffer buffer(pool(), rounded(kPanels * (layout_.offsets() + 2 * kBlock) * width) +
                                         rounded(kPanels * R * width) + rounded(kPanels * Q * width));
  Panels offsets = padded_panels(buffer, layout_.offsets(), width), gradient = plain_panels(buffer, R, width);
  const Panels back = plain_panels(buffer, Q, width);
  for (; first < last; first += kPanels * width) {
    const size_t count = std::min(last - first, kPanels * width), panels = chunks_of(count, width);
    offsets.count = gradient.count = panels;
    const float* rows[kMaxRows];
    row_pointers(dy, R, first, last, dy + first * R, panels * width, rows);
    for (size_t i = 0; i < panels; ++i) steps_.load_panel(rows + i * width, R, gradient.data + i * gradient.stride);
    for (size_t j = 0; j < r_; ++j) {
      if (phases_.size() < n) clear(offsets, panels);
      steps_.band_transposed(layout_, packed + j * factors_, gradient, offsets);
      for (size_t i = 0; i < panels; ++i)
        steps_.spread(layout_, taps + j * n, offsets.data + i * offsets.stride, j > 0, back.data + i * back.stride);
    }
    store(back, Q, first, count, dx);
  }
}

}  // namespace deepthin::training
