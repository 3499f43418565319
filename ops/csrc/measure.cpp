// C interface for what is measured and not run: products of random factors, and what the processor can do at most.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <exception>
#include <stdexcept>
#include <vector>

#include "kernels.h"
#include "product.h"
#include "slices.h"

#define DEEPTHIN_EXPORT extern "C" __attribute__((visibility("default")))

namespace deepthin {
namespace {

constexpr size_t kErrorSize = 256;

double seconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

// Seconds of a call: the least of several averages over a tenth of a millisecond or more, for `seconds` of this thread's
// processor time. They are of the wall's clock: processor time was seen to lag in a virtual machine, which made a product
// faster than the core's peak. What else the machine does is not in all of them.
template <typename Body>
double shortest(double seconds, Body&& body) {
  const auto average = [&](size_t calls) {
    const double start = seconds_of(CLOCK_MONOTONIC);
    for (size_t i = 0; i < calls; ++i) body();
    return (seconds_of(CLOCK_MONOTONIC) - start) / double(calls);
  };
  const auto used = [] { return seconds_of(CLOCK_THREAD_CPUTIME_ID); };
  size_t calls = 1;
  while (average(calls) * double(calls) < 1e-4) calls *= 2;
  double best = average(calls);
  for (const double end = used() + seconds; used() < end;) best = std::min(best, average(calls));
  return best;
}

// Values between -1 and 1, the same in every run.
std::vector<float> values(size_t count) {
  std::vector<float> made(count);
  uint32_t state = 1;
  for (float& value : made) {
    state = state * 1664525u + 1013904223u;
    value = float(state >> 8) / float(1 << 23) - 1.0f;
  }
  return made;
}

struct Shape {
  int64_t Q, R, m, n, r;
};

// What a product of some rows with random factors takes, per call.
struct Measured {
  double seconds, correlation_seconds;   // the second without reading and writing the rows; 0 where it is not apart
  double correlation_flops, band_flops;  // multiplications and additions
  double bytes;                          // constants that it reads
  int32_t transformed, lanes;            // whether the correlation is a transform, and rows lie in lanes
};

// The same by counting, of the rows that are taken one after the other or of the blocks of rows: how many there are, and
// about as many vector multiply-adds as take as long.
struct Work {
  double calls, taps, transforms, band;
};
struct Estimate {
  Work rows, blocks;
};

Work work_of(double calls, const PathCosts& costs) {
  const double correlation = calls * costs.correlation;
  return {calls, costs.transformed ? 0 : correlation, costs.transformed ? correlation : 0, calls * costs.band};
}

// The correlation alone of one block of rows.
class Correlation {
 public:
  Correlation(const Product& product, const PlanView& view, size_t rows)
      : kernels_(product.plan().kernels()), view_(view), lanes_(product.use_lanes(rows)) {
    const size_t width = kernels_.lanes;
    x_ = values(view.Q + padded_row_floats(view, width) + lane_input_floats(view, width));
    offsets_.resize(std::max(row_offsets_floats(view, width), lane_offsets_floats(view, width, kMaxPlanes)));
    const FftView* fft = lanes_ ? view.rows_fft : view.row_fft;
    z_.resize(fft ? fft->buffer : 0);
  }

  size_t rows() const { return lanes_ ? kernels_.lanes : 1; }

  void operator()() {
    const size_t width = kernels_.lanes;
    for (size_t j = 0; j < view_.r; ++j) {
      if (lanes_ && view_.rows_fft) {
        const std::vector<const float*> rows(width, x_.data());
        if (j == 0) kernels_.fft_rows_split(*view_.rows_fft, rows.data(), view_.Q, z_.data());
        kernels_.fft_rows_join(*view_.rows_fft, view_, j, z_.data(), z_.data(), offsets_.data(), kMaxPlanes, 0);
      } else if (lanes_) {
        kernels_.correlate_lanes(view_, j, x_.data(), offsets_.data(), kMaxPlanes, 0, 0, view_.offsets());
      } else if (view_.row_fft) {
        if (j == 0) kernels_.fft_row_split(*view_.row_fft, x_.data(), view_.Q, z_.data());
        kernels_.fft_row_join(*view_.row_fft, j, z_.data(), z_.data(), offsets_.data(), view_.offsets());
      } else {
        kernels_.correlate_row(view_, j, x_.data(), offsets_.data(), 0, view_.offsets());
      }
    }
  }

 private:
  const Kernels& kernels_;
  const PlanView& view_;
  bool lanes_;
  std::vector<float> x_, offsets_, z_;
};

size_t checked(int64_t value) {
  if (value < 1 || value > (int64_t{1} << 31)) throw std::invalid_argument("every number must be between 1 and 2^31");
  return size_t(value);
}

Measured measure(const Shape& shape, size_t rows, double seconds) {
  const size_t Q = checked(shape.Q), R = checked(shape.R), m = checked(shape.m), n = checked(shape.n),
               r = checked(shape.r);
  const std::vector<float> Xf = values(m * r), Wf = values(r * n);
  const Product product(Plan(choose_kernels(), Q, R, m, n, r, Xf.data(), Wf.data()));
  const PlanView view = product.plan().view(Xf.data(), Wf.data());
  const bool lanes = product.use_lanes(rows);
  const PlanCosts costs = product.plan().costs(lanes);
  const double blocks = lanes ? double(chunks_of(rows, product.plan().kernels().lanes)) : double(rows);
  Measured found{};
  found.correlation_flops = blocks * costs.correlation_flops;
  found.band_flops = blocks * costs.band_flops;
  found.bytes = costs.bytes;
  found.transformed = (lanes ? view.rows_fft : view.row_fft) != nullptr;
  found.lanes = lanes;
  if (seconds <= 0) return found;

  const std::vector<float> x = values(rows * Q);
  std::vector<float> y(rows * R), scratch(product.scratch_floats(rows) + 16);
  float* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64 / sizeof(float);
  const size_t step = product.rows_per_task(rows);
  found.seconds = shortest(seconds, [&] {
    for (size_t first = 0; first < rows; first += step)
      product.multiply_here(view, {x.data(), 1, Q, 0}, first, std::min(step, rows - first), {nullptr, Activation::kNone},
                            {y.data(), 1, R, 0}, aligned);
  });
  if (!product.plan().direct()) {
    Correlation correlation(product, view, rows);
    found.correlation_seconds = blocks * shortest(seconds, correlation);
  }
  return found;
}

}  // namespace
}  // namespace deepthin

using namespace deepthin;

// These return 0, or -1 with the reason in `error` (kErrorSize bytes).

// For `count` pairs of n and r of the shape's Q x R.
DEEPTHIN_EXPORT int32_t deepthin_estimate_products(const Shape* shape, int64_t rows, const int64_t* n, const int64_t* r,
                                                   int64_t count, Estimate* found, char* error) {
  try {
    const Kernels& kernels = choose_kernels();
    const size_t Q = checked(shape->Q), R = checked(shape->R), wanted = checked(rows);
    for (int64_t i = 0; i < count; ++i) {
      const size_t columns = checked(n[i]), ranks = checked(r[i]);
      const PathCosts row = estimate(kernels, Q, R, columns, ranks, false);
      const PathCosts block = estimate(kernels, Q, R, columns, ranks, true);
      const size_t over = wanted % kernels.lanes, fewest = fewest_lanes(kernels, row, block);
      const size_t alone = wanted < fewest ? wanted : over < fewest ? over : 0;
      found[i] = {work_of(double(alone), row), work_of(double(chunks_of(wanted - alone, kernels.lanes)), block)};
    }
    return 0;
  } catch (const std::exception& problem) {
    std::snprintf(error, kErrorSize, "%s", problem.what());
    return -1;
  }
}

// Bytes that a session's operator keeps of such a matrix, beside the factors that the runtime holds: as float, or in half
// precision where that is said.
DEEPTHIN_EXPORT int32_t deepthin_kept_bytes(const Shape* shape, int32_t half_Xf, int32_t half_Wf, int64_t* found,
                                            char* error) {
  try {
    const size_t m = checked(shape->m), n = checked(shape->n), r = checked(shape->r);
    const std::vector<float> Xf = values(m * r), Wf = values(r * n);
    const Plan plan(choose_kernels(), checked(shape->Q), checked(shape->R), m, n, r, Xf.data(), Wf.data(),
                    {half_Xf != 0, half_Wf != 0});
    *found = int64_t(plan.bytes());
    return 0;
  } catch (const std::exception& problem) {
    std::snprintf(error, kErrorSize, "%s", problem.what());
    return -1;
  }
}

// Measures for `seconds`, or not at all where that is 0.
DEEPTHIN_EXPORT int32_t deepthin_measure_product(const Shape* shape, int64_t rows, double seconds, Measured* found,
                                                 char* error) {
  try {
    if (rows < 1 || rows > 4096) throw std::invalid_argument("rows must be between 1 and 4096");
    *found = measure(*shape, size_t(rows), seconds);
    return 0;
  } catch (const std::exception& problem) {
    std::snprintf(error, kErrorSize, "%s", problem.what());
    return -1;
  }
}

// Multiplications and additions in a second of one core, all in registers; 0 where DEEPTHIN_OPS_ISA cannot run here.
DEEPTHIN_EXPORT double deepthin_measure_peak(double seconds) {
  try {
    const Kernels& kernels = choose_kernels();
    constexpr size_t kRounds = 20000;
    volatile float sink = 0.0f;
    const double found = shortest(seconds, [&] { sink = kernels.multiply_adds(kRounds); });
    return 2.0 * double(kMeasuredChains * kRounds * kernels.lanes) / found;
  } catch (...) {
    return 0.0;
  }
}

// Bytes in a second that one core reads of `count` values, over and over; 0 where it cannot be measured.
DEEPTHIN_EXPORT double deepthin_measure_bandwidth(int64_t count, double seconds) {
  try {
    const Kernels& kernels = choose_kernels();
    const std::vector<float> from(size_t(std::max<int64_t>(count, 64)), 1.0f);
    volatile float sink = 0.0f;
    const double found = shortest(seconds, [&] { sink = kernels.read_values(from.data(), from.size()); });
    return double(from.size() * sizeof(float)) / found;
  } catch (...) {
    return 0.0;
  }
}
