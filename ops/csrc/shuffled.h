// A DeepThin matrix whose entries are read from the factors' product in a pseudo-random order: see ops/hashing.py.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>

#include "factors.h"
#include "hashed.h"
#include "matrix.h"

namespace deepthin {

class ShuffledMatrix : public TiledMatrix {
 public:
  ShuffledMatrix(const Kernels& kernels, size_t Q, size_t R, ShuffledView view)
      : TiledMatrix(kernels, Q, R), view_(view) {}
  // To make a weight costs more than to read the rows from a farther cache.
  size_t blocks() const override { return kMostBlocks; }

 protected:
  void fill(size_t c, size_t q, size_t count, float* tile) const override {
    stored().shuffle(view_, c * Q() + q, count, tile);
  }

 private:
  ShuffledView view_;
};

// All of the view but where the factors lie. Throws std::invalid_argument where they do not fill a Q x R matrix.
inline ShuffledView shuffled_view(const Factors& f, size_t Q, size_t R, int64_t seed) {
  check_countable(Q, R);
  check_fills(Q, R, f.m, f.n);
  // The kernels find values by 31-bit numbers.
  if (f.m * f.r > size_t(std::numeric_limits<int32_t>::max()))
    throw std::invalid_argument("Xf has more than 2^31 - 1 values");
  ShuffledView view{};
  view.n = uint32_t(f.n);
  view.r = uint32_t(f.r);
  view.last = uint32_t(Q * R - 1);
  view.half = 1;
  while (view.half < 16 && size_t{1} << 2 * view.half <= view.last) ++view.half;
  view.key = seed_key(seed);
  view.reciprocal = std::numeric_limits<uint32_t>::max() / view.n;
  return view;
}

}  // namespace deepthin
