#include "language_model.h"

#include <algorithm>

namespace deepthin::search {
namespace {

constexpr uint32_t kAbsent = RankedBits::kAbsent;

// Index of `word` among the sorted items [begin, end), kAbsent when it is not there.
uint32_t FindWord(const PackedArray& words, uint32_t begin, uint32_t end, uint32_t word) {
  while (begin < end) {
    const uint32_t middle = begin + (end - begin) / 2;
    const uint32_t value = words[middle];
    if (value == word) return middle;
    if (value < word) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return kAbsent;
}

}  // namespace

LanguageModel::LanguageModel(const Graph& graph) : graph_(graph), cache_(kCache, Cached{~uint64_t{0}, {}}) {}

uint32_t LanguageModel::Start(const Domain& domain) {
  Context context;
  context.fill(kAbsent);
  if (graph_.orders > 1) context[0] = graph_.ngrams[0].inner.rank(domain.start_word);
  return Number(context);
}

uint32_t LanguageModel::Number(const Context& context) {
  uint64_t longest = 0;
  for (uint32_t order = graph_.orders; order-- > 1;) {
    if (context[order - 1] != kAbsent) {
      longest = (uint64_t{order} << 32) | context[order - 1];
      break;
    }
  }
  const auto [place, fresh] = numbers_.try_emplace(longest, static_cast<uint32_t>(contexts_.size()));
  if (fresh) contexts_.push_back(context);
  return place->second;
}

Step LanguageModel::Next(uint32_t history, uint32_t word) {
  const uint64_t key = (uint64_t{history} << 32) | word;
  Cached& cached = cache_[(key * 0x9E3779B97F4A7C15u) >> 48];
  if (cached.key != key) cached = {key, Look(history, word)};
  return cached.step;
}

Step LanguageModel::Look(uint32_t history, uint32_t word) {
  const Context before = contexts_[history];  // a copy: Number may move the list
  Context after;
  after.fill(kAbsent);
  float score = graph_.ngrams[0].direct[word];
  if (graph_.orders > 1) after[0] = graph_.ngrams[0].inner.rank(word);
  for (uint32_t order = 2; order <= graph_.orders; ++order) {
    const uint32_t parent = before[order - 2];
    if (parent == kAbsent) continue;
    const NgramOrder& below = graph_.ngrams[order - 2];
    const NgramOrder& level = graph_.ngrams[order - 1];
    const uint32_t place = FindWord(level.word, below.begin[parent], below.begin[parent + 1], word);
    if (place == kAbsent) {
      score += below.backoffs[below.backoff_code[parent]];
    } else {
      score = level.probabilities[level.code[place]];
      if (order < graph_.orders) after[order - 1] = level.inner.rank(place);
    }
  }
  return {score, Number(after)};
}

}  // namespace deepthin::search
