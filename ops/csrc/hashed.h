// What the hash and the permutation of ops/hashing.py start from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace deepthin {

inline uint32_t seed_key(int64_t seed) { return static_cast<uint32_t>(seed) * 0x9e3779b1u; }

// Hashes number the entries of a matrix with 32 bits.
inline void check_countable(size_t Q, size_t R) {
  if (Q * R > size_t{1} << 32)
    throw std::invalid_argument("a matrix of " + std::to_string(Q) + " x " + std::to_string(R) +
                                " has more than the 2^32 entries that can be told apart");
}

}  // namespace deepthin
