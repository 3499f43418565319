// The symbols' own counts as their probabilities. The counts travel in front of the symbols as short floating numbers,
// with about half of each count's digits: what more digits would save in the symbols they would cost in the table.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "arithmetic.h"

namespace deepthin::coder {

constexpr int kScaleBits = 28;
constexpr int kLargestExponent = 33;
constexpr int64_t kMostSymbols = int64_t{1} << 32;

// Codes the counts of symbols 0, 1, ...; they become the approximations that both sides know, times two.
template <class Coder>
void CodeCounts(Coder& coder, std::vector<uint64_t>& counts) {
  AdaptiveBit absent[4];
  AdaptiveBit longer[16];
  uint32_t history = 0;
  int previous = 4;
  for (uint64_t& count : counts) {
    int exponent = count == 0 ? 0 : 64 - __builtin_clzll(count);  // digits of the count
    bool zero = exponent == 0;
    coder.Bit(absent[history & 3], zero);
    history = history << 1 | (zero ? 1 : 0);
    if (zero) {
      count = 0;
      continue;
    }
    // The difference to the last one, as 0, -1, 1, -2, ... in unary.
    const int difference = exponent - previous;
    const int target = difference >= 0 ? 2 * difference : -2 * difference - 1;
    int steps = 0;
    for (;; ++steps) {
      bool more = steps < target;
      coder.Bit(longer[std::min(steps, 15)], more);
      if (!more) break;
      if (steps > 2 * kLargestExponent) throw BrokenStream("the table of counts is corrupted");
    }
    exponent = previous + (steps % 2 == 0 ? steps / 2 : -(steps + 1) / 2);
    if (exponent < 1 || exponent > kLargestExponent) throw BrokenStream("the table of counts is corrupted");
    previous = exponent;
    const int kept = std::max(0, exponent / 2 - 2);
    const int dropped = exponent - 1 - kept;
    const uint64_t leading = uint64_t{1} << kept;
    uint32_t digits = static_cast<uint32_t>((count >> dropped) & (leading - 1));
    if (kept > 0) coder.Uniform(kept, digits);
    count = ((leading | digits) << (dropped + 1)) + (uint64_t{1} << dropped) - 1;  // twice the middle of its interval
  }
}

// Intervals of [0, 2^kScaleBits), one for each symbol that occurs.
class StaticModel {
 public:
  explicit StaticModel(const std::vector<uint64_t>& weights) {
    uint64_t total = 0;
    for (size_t symbol = 0; symbol < weights.size(); ++symbol) {
      if (weights[symbol] == 0) continue;
      symbols_.push_back(static_cast<uint16_t>(symbol));
      total += weights[symbol];
    }
    if (total == 0 || total >> (64 - kScaleBits) != 0) throw BrokenStream("the table of counts is corrupted");
    const uint64_t shared = (uint64_t{1} << kScaleBits) - symbols_.size();
    uint64_t left = shared;
    size_t largest = 0;
    std::vector<uint32_t> sizes;
    sizes.reserve(symbols_.size());
    for (const uint16_t symbol : symbols_) {
      const uint64_t size = weights[symbol] * shared / total;
      left -= size;
      sizes.push_back(static_cast<uint32_t>(size + 1));
      if (sizes.back() > sizes[largest]) largest = sizes.size() - 1;
    }
    sizes[largest] += static_cast<uint32_t>(left);
    starts_.reserve(sizes.size() + 1);
    starts_.push_back(0);
    for (const uint32_t size : sizes) starts_.push_back(starts_.back() + size);
  }

  const std::vector<uint16_t>& symbols() const { return symbols_; }
  const std::vector<uint32_t>& starts() const { return starts_; }  // one more than symbols

 private:
  std::vector<uint16_t> symbols_;
  std::vector<uint32_t> starts_;
};

// Finds the symbol of a place: a table of equal cells, then a search among the symbols that begin in the cell.
class Lookup {
 public:
  explicit Lookup(const StaticModel& model) : starts_(model.starts().data()), symbols_(model.symbols().data()) {
    uint32_t index = 0;
    for (uint32_t cell = 0; cell < kCells; ++cell) {
      while (starts_[index + 1] <= cell << kCellBits) ++index;
      first_[cell] = index;
    }
    first_[kCells] = static_cast<uint32_t>(model.symbols().size()) - 1;
  }

  uint32_t Find(uint32_t place) const {
    uint32_t low = first_[place >> kCellBits];
    uint32_t high = first_[(place >> kCellBits) + 1];
    while (low < high) {
      const uint32_t middle = (low + high + 1) / 2;
      if (starts_[middle] <= place) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  uint32_t start(uint32_t index) const { return starts_[index]; }
  uint32_t size(uint32_t index) const { return starts_[index + 1] - starts_[index]; }
  uint16_t symbol(uint32_t index) const { return symbols_[index]; }

 private:
  static constexpr int kCellBits = kScaleBits - 12;
  static constexpr uint32_t kCells = 1 << 12;

  const uint32_t* starts_;
  const uint16_t* symbols_;
  uint32_t first_[kCells + 1];
};

}  // namespace deepthin::coder
