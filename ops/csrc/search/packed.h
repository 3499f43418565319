// Views of the packed arrays of a graph file. Nothing is copied: all of them point into the mapped file.
#pragma once

#include <cstdint>
#include <cstring>

namespace deepthin::search {

// Unsigned integers of `bits` bits each, 1 to 32. The file pads the data so that eight bytes can be read at any item.
class PackedArray {
 public:
  PackedArray() = default;
  PackedArray(const uint8_t* data, uint32_t bits, uint64_t count)
      : data_(data), bits_(bits), mask_((uint64_t{1} << bits) - 1), count_(count) {}

  uint32_t operator[](uint64_t index) const {
    const uint64_t bit = index * bits_;
    uint64_t word;
    std::memcpy(&word, data_ + (bit >> 3), sizeof word);
    return static_cast<uint32_t>((word >> (bit & 7)) & mask_);
  }

  uint64_t size() const { return count_; }

 private:
  const uint8_t* data_ = nullptr;
  uint32_t bits_ = 1;
  uint64_t mask_ = 1;
  uint64_t count_ = 0;
};

// A set of indices as a bitmap; `rank` numbers its members.
class RankedBits {
 public:
  static constexpr uint32_t kAbsent = 0xFFFFFFFFu;
  static constexpr uint64_t kBlock = 512;  // bits a rank entry covers

  RankedBits() = default;
  RankedBits(const uint64_t* bits, const uint32_t* ranks, uint64_t count) : bits_(bits), ranks_(ranks), count_(count) {}

  // Number of members below `index`, kAbsent when `index` is no member.
  uint32_t rank(uint64_t index) const {
    const uint64_t place = index >> 6;
    const uint64_t bit = index & 63;
    if (((bits_[place] >> bit) & 1) == 0) return kAbsent;
    uint32_t members = ranks_[index / kBlock];
    for (uint64_t i = (index / kBlock) * (kBlock / 64); i < place; ++i) members += Ones(bits_[i]);
    return members + Ones(bits_[place] & ((uint64_t{1} << bit) - 1));
  }

  uint64_t size() const { return count_; }

 private:
  static uint32_t Ones(uint64_t value) { return static_cast<uint32_t>(__builtin_popcountll(value)); }

  const uint64_t* bits_ = nullptr;
  const uint32_t* ranks_ = nullptr;
  uint64_t count_ = 0;
};

}  // namespace deepthin::search
