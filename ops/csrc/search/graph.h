// A decoding graph: the lexicon trees and n-gram tables of one file, which the caller keeps mapped.
//
// The file: 8 bytes "DTGRAPH\0", u32 version, u32 number of sections, then for each section 16 bytes of name, u64 offset
// and u64 bytes; sections start at multiples of 64. All numbers are little-endian. models/decoding/graph_file.py writes it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "packed.h"

namespace deepthin::search {

constexpr uint32_t kVersion = 1;
constexpr uint32_t kMostOrders = 5;

class GraphError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// One kind of speech with its own words, lexicon tree and language model; a hypothesis stays in its domain.
struct Domain {
  uint32_t first_word;
  uint32_t start_word;  // <s>
  uint32_t end_word;    // </s>
  float log_prior;
};
static_assert(sizeof(Domain) == 16);

// N-grams of one order. Those that begin longer ones are `inner` and have a back-off weight and a range of children.
struct NgramOrder {
  PackedArray word;                   // order 2 and up: last word
  const float* direct = nullptr;      // order 1: natural log probability of each word
  const uint8_t* code = nullptr;      // order 2 and up: into `probabilities`
  const float* probabilities = nullptr;
  RankedBits inner;                   // all orders but the last
  PackedArray begin;                  // per inner n-gram and one more: first child in the next order
  const uint8_t* backoff_code = nullptr;
  const float* backoffs = nullptr;
  uint64_t count = 0;
};

// The lexicon trees: node d is the root of domain d; the children of a node are neighbours.
struct Trees {
  const uint8_t* unit = nullptr;       // acoustic unit of each node, 0 at roots
  const uint8_t* ahead_code = nullptr; // into `aheads`: best unigram log probability of the words below
  const float* aheads = nullptr;       // [256]
  PackedArray child;                   // per node and one more: first child
  PackedArray entry;                   // per node and one more: first entry of `said`
  PackedArray said;                    // words that end at a node
  uint32_t nodes = 0;
};

struct Graph {
  Graph(const uint8_t* data, size_t size);

  uint32_t units = 0;
  uint32_t words = 0;
  uint32_t orders = 0;
  std::vector<Domain> domains;
  std::array<NgramOrder, kMostOrders> ngrams;
  Trees trees;

  uint32_t DomainOf(uint32_t word) const {
    uint32_t domain = static_cast<uint32_t>(domains.size()) - 1;
    while (word < domains[domain].first_word) --domain;
    return domain;
  }
};

}  // namespace deepthin::search
