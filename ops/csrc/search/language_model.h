// N-gram histories of one decode and the probabilities of words after them.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "graph.h"

namespace deepthin::search {

struct Step {
  float log_probability;  // natural log
  uint32_t history;       // history after the word
};

// Not thread-safe: each decode has its own. Histories are small numbers, equal when no word can tell them apart.
class LanguageModel {
 public:
  explicit LanguageModel(const Graph& graph);

  // History at the start of a sentence of `domain`.
  uint32_t Start(const Domain& domain);

  Step Next(uint32_t history, uint32_t word);

 private:
  // For every order but the last, the inner n-gram that ends at the last word, RankedBits::kAbsent if there is none.
  using Context = std::array<uint32_t, kMostOrders - 1>;
  struct Cached {
    uint64_t key;
    Step step;
  };
  static constexpr size_t kCache = size_t{1} << 16;

  Step Look(uint32_t history, uint32_t word);
  uint32_t Number(const Context& context);

  const Graph& graph_;
  std::vector<Context> contexts_;
  std::unordered_map<uint64_t, uint32_t> numbers_;  // longest inner n-gram of a context -> its number
  std::vector<Cached> cache_;
};

}  // namespace deepthin::search
