// C interface of the search, for ctypes. Every function that can fail returns null or a negative number and writes the
// reason to `error`, which holds kErrorSize bytes.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <vector>

#include "graph.h"
#include "search.h"

#define DEEPTHIN_SEARCH_API extern "C" __attribute__((visibility("default")))

namespace {

using deepthin::search::FoundWord;
using deepthin::search::Graph;
using deepthin::search::Options;
using deepthin::search::Search;

constexpr size_t kErrorSize = 256;

struct Decode {
  Decode(const Graph& g, const Options& options, const float* log_priors)
      : graph(g), search(g, options, log_priors) {}
  const Graph& graph;
  Search search;
  std::vector<FoundWord> words;
};

void Explain(char* error, const char* reason) { std::snprintf(error, kErrorSize, "%s", reason); }

}  // namespace

// `data` must stay mapped until deepthin_search_close.
DEEPTHIN_SEARCH_API void* deepthin_search_open(const uint8_t* data, uint64_t size, char* error) {
  try {
    return new Graph(data, size);
  } catch (const std::exception& problem) {
    Explain(error, problem.what());
    return nullptr;
  }
}

DEEPTHIN_SEARCH_API void deepthin_search_close(void* graph) { delete static_cast<Graph*>(graph); }

// `log_priors` [units] may be null.
DEEPTHIN_SEARCH_API void* deepthin_search_start(const void* graph, const Options* options, const float* log_priors,
                                                char* error) {
  try {
    return new Decode(*static_cast<const Graph*>(graph), *options, log_priors);
  } catch (const std::exception& problem) {
    Explain(error, problem.what());
    return nullptr;
  }
}

DEEPTHIN_SEARCH_API void deepthin_search_stop(void* decode) { delete static_cast<Decode*>(decode); }

DEEPTHIN_SEARCH_API void deepthin_search_reset(void* decode) { static_cast<Decode*>(decode)->search.Reset(); }

// `log_probs` is [frames, units], contiguous. Returns 0, or -1 when memory runs out or a value is no number.
DEEPTHIN_SEARCH_API int32_t deepthin_search_advance(void* decode, const float* log_probs, int64_t frames, char* error) {
  auto* state = static_cast<Decode*>(decode);
  for (int64_t i = 0; i < frames * state->graph.units; ++i) {
    if (!(log_probs[i] <= 1e-3f)) {
      Explain(error, "a log probability is above 0 or not a number");
      return -1;
    }
  }
  try {
    state->search.Advance(log_probs, frames);
    return 0;
  } catch (const std::exception& problem) {
    Explain(error, problem.what());
    return -1;
  }
}

// Finds the best words so far, keeps them for deepthin_search_words, and returns how many there are.
DEEPTHIN_SEARCH_API int64_t deepthin_search_best(void* decode, int32_t final, double* score, char* error) {
  auto* state = static_cast<Decode*>(decode);
  try {
    *score = state->search.Best(final != 0, &state->words);
    return static_cast<int64_t>(state->words.size());
  } catch (const std::exception& problem) {
    Explain(error, problem.what());
    return -1;
  }
}

DEEPTHIN_SEARCH_API const FoundWord* deepthin_search_words(const void* decode) {
  return static_cast<const Decode*>(decode)->words.data();
}
