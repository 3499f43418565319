// How work is cut up for the session's threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <thread>

#include "kernels.h"
#include "parallel.h"

namespace deepthin {

// Multiply-adds below which waking another thread costs more than it saves: a few microseconds of one core.
constexpr size_t kWorthSharing = size_t{1} << 19;

// Rows of a batch are worked on in one or two vectors of them.
constexpr size_t kMaxPlanes = 2;
constexpr size_t kMaxLanes = 16;

inline size_t processors() {
  static const size_t count = std::max(1u, std::min(16u, std::thread::hardware_concurrency()));
  return count;
}

// Runs body(first, last) over [0, total) in steps that are multiples of `step`: here, or in slices on the threads.
template <typename Body>
void sliced(const Parallel* parallel, size_t total, size_t step, const Body& body) {
  const size_t steps = chunks_of(total, step);
  const size_t slices = parallel ? std::min(processors(), steps) : 1;
  if (slices <= 1) return body(size_t{0}, total);
  (*parallel)(slices, [&](size_t i) {
    body(std::min(total, steps * i / slices * step), std::min(total, steps * (i + 1) / slices * step));
  });
}

}  // namespace deepthin
