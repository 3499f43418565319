// Token-passing Viterbi beam search of CTC log probabilities over lexicon trees and an n-gram language model.
//
// A token stands for the best path to a (tree node, language-model history). Every node keeps two scores: the path's last
// frame said the node's unit, or the blank. A unit may follow itself only after a blank, across word ends too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph.h"
#include "language_model.h"
#include "token_table.h"

namespace deepthin::search {

struct Options {
  float acoustic_scale;  // of the units' log probabilities
  float lm_weight;       // of natural log probabilities of words
  float word_score;      // added at each word
  float beam;            // tokens further below the best one are dropped
  int32_t max_active;    // most tokens taken from one frame to the next
  float blank_skip;      // log probability of blank from which a frame only moves tokens to blank; above 0: never
};
static_assert(sizeof(Options) == 24);

struct FoundWord {
  int32_t word;
  int32_t start_frame;
  int32_t end_frame;  // last frame of its last unit
  float confidence;   // geometric mean of the posteriors along its frames of the path
};
static_assert(sizeof(FoundWord) == 16);

// One decode: not thread-safe; any number of them may share a graph.
class Search {
 public:
  // `log_priors` [units] are subtracted from the log probabilities; may be null.
  Search(const Graph& graph, const Options& options, const float* log_priors);

  // Forgets everything and starts a new utterance.
  void Reset();

  // Consumes [frames, units] natural log probabilities, unit 0 being the blank.
  void Advance(const float* log_probs, int64_t frames);

  // Best words so far. With `final`, only complete hypotheses count and the probability of a sentence end is included;
  // a beam that holds none gives the words before the unfinished one. Returns the score.
  double Best(bool final, std::vector<FoundWord>* words) const;

 private:
  // A word end. Records form chains back to the start of the utterance; 0 is the start itself.
  struct Record {
    uint32_t before;
    uint32_t word;
    int32_t start;
    int32_t end;
    float posterior;  // sum of log posteriors of its frames
  };

  float Ahead(uint32_t node) const { return ahead_[graph_.trees.ahead_code[node]]; }
  void FrameOfBlank(float posterior);
  void SelectActive();
  void Expand(const Token& token, const float* log_probs);
  void EndWords();
  void CollectRecords();

  const Graph& graph_;
  const Options options_;
  std::vector<float> priors_;
  std::vector<float> scores_;  // of the frame's units, scaled
  float ahead_[256];           // look-ahead of each code, scaled
  mutable LanguageModel model_;
  TokenTable tokens_;  // of the last frame
  TokenTable next_;
  std::vector<Record> records_;
  std::vector<uint32_t> active_;    // indices of the tokens to expand, best first at [0]
  std::vector<float> promises_;     // score plus look-ahead of each token
  float beam_ = 0;                  // of the new tokens
  float cutoff_ = 0;                // least score plus look-ahead a new token needs
  float best_ = 0;                  // best score plus look-ahead of the new tokens
  double offset_ = 0;               // taken out of all scores so far, against loss of precision
  int64_t frame_ = 0;
  size_t collect_at_ = 0;           // number of records at which to drop the unreachable
};

}  // namespace deepthin::search
