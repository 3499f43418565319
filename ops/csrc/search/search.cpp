#include "search.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace deepthin::search {
namespace {

constexpr uint32_t kNode = 0x00FFFFFFu;
constexpr uint32_t kUnitShift = 24;
constexpr float kFloor = -1e4f;  // for log probabilities of minus infinity: a path may be bad, never impossible
constexpr float kSlack = 1.0f;
constexpr size_t kFirstCollection = size_t{1} << 16;

void Improve(Path* path, float score, uint32_t record, int32_t start, float posterior) {
  if (score > path->score) *path = {score, record, start, posterior};
}

}  // namespace

Search::Search(const Graph& graph, const Options& options, const float* log_priors)
    : graph_(graph), options_(options), priors_(graph.units, 0.0f), scores_(graph.units), model_(graph) {
  if (log_priors != nullptr) priors_.assign(log_priors, log_priors + graph.units);
  for (int code = 0; code < 256; ++code) ahead_[code] = options.lm_weight * graph.trees.aheads[code];
  Reset();
}

void Search::Reset() {
  records_.assign(1, Record{0, 0, 0, 0, 0.0f});
  tokens_.Clear();
  for (uint32_t domain = 0; domain < graph_.domains.size(); ++domain) {
    const Domain& kind = graph_.domains[domain];
    Improve(&tokens_.At(domain, model_.Start(kind)).blank, options_.lm_weight * kind.log_prior, 0, 0, 0.0f);
  }
  offset_ = 0;
  frame_ = 0;
  collect_at_ = kFirstCollection;
}

void Search::Advance(const float* log_probs, int64_t frames) {
  for (int64_t i = 0; i < frames; ++i, log_probs += graph_.units) {
    for (uint32_t unit = 0; unit < graph_.units; ++unit) {
      scores_[unit] = options_.acoustic_scale * (std::max(log_probs[unit], kFloor) - priors_[unit]);
    }
    SelectActive();
    next_.Clear();
    best_ = kImpossible;
    cutoff_ = kImpossible;
    if (log_probs[0] >= options_.blank_skip) {
      FrameOfBlank(log_probs[0]);
    } else {
      for (const uint32_t index : active_) Expand(tokens_.tokens()[index], log_probs);
      EndWords();
    }
    std::swap(tokens_, next_);
    ++frame_;
    if (records_.size() >= collect_at_) CollectRecords();
  }
}

// Chooses the tokens within the beam and max_active, and takes the best score out of all of them.
void Search::SelectActive() {
  std::vector<Token>& tokens = tokens_.tokens();
  float best = kImpossible;
  float top = kImpossible;
  promises_.clear();
  for (const Token& token : tokens) {
    const float score = token.best().score;
    promises_.push_back(score + Ahead(token.place & kNode));
    best = std::max(best, promises_.back());
    top = std::max(top, score);
  }
  const float least = best - options_.beam;
  beam_ = options_.beam;
  active_.clear();
  for (uint32_t i = 0; i < tokens.size(); ++i) {
    if (promises_[i] >= least) active_.push_back(i);
  }
  const auto better = [this](uint32_t a, uint32_t b) { return promises_[a] > promises_[b]; };
  if (active_.size() > static_cast<size_t>(options_.max_active)) {
    std::nth_element(active_.begin(), active_.begin() + options_.max_active, active_.end(), better);
    // A crowd would only be larger after the next frame: what it takes to be among the best narrows its beam too.
    beam_ = std::min(options_.beam, best - promises_[active_[static_cast<size_t>(options_.max_active)]] + kSlack);
    active_.resize(static_cast<size_t>(options_.max_active));
  }
  // The best first: it sets the cutoff that spares the others most of their work.
  std::iter_swap(active_.begin(), std::min_element(active_.begin(), active_.end(), better));
  for (const uint32_t index : active_) {
    tokens[index].said.score -= top;
    tokens[index].blank.score -= top;
  }
  offset_ += top;
}

void Search::FrameOfBlank(float posterior) {
  for (const uint32_t index : active_) {
    const Token& token = tokens_.tokens()[index];
    const Path& path = token.best();
    Improve(&next_.At(token.place & kNode, token.history).blank, path.score + scores_[0], path.record, path.start,
            path.posterior + posterior);
  }
}

void Search::Expand(const Token& token, const float* log_probs) {
  const Trees& trees = graph_.trees;
  const uint32_t node = token.place & kNode;
  const bool root = node < graph_.domains.size();
  const uint32_t last = root ? token.place >> kUnitShift : trees.unit[node];
  const Path& best = token.best();
  const float ahead = Ahead(node);

  const float silent = best.score + scores_[0];
  if (silent + ahead >= cutoff_) {
    Improve(&next_.At(node, token.history).blank, silent, best.record, best.start, best.posterior + log_probs[0]);
    best_ = std::max(best_, silent + ahead);
  }
  // At a root the word's own last node repeats the unit.
  if (!root && token.said.score + scores_[last] + ahead >= cutoff_) {
    const float repeated = token.said.score + scores_[last];
    Improve(&next_.At(node, token.history).said, repeated, token.said.record, token.said.start,
            token.said.posterior + log_probs[last]);
    best_ = std::max(best_, repeated + ahead);
  }
  cutoff_ = std::max(cutoff_, best_ - beam_);

  const uint32_t end = trees.child[node + 1];
  for (uint32_t child = trees.child[node]; child < end; ++child) {
    const uint32_t unit = trees.unit[child];
    const Path& from = unit == last ? token.blank : best;
    const float score = from.score + scores_[unit];
    const float promise = score + Ahead(child);
    if (promise < cutoff_ || score == kImpossible) continue;
    Improve(&next_.At(child, token.history).said, score, from.record, root ? static_cast<int32_t>(frame_) : from.start,
            (root ? 0.0f : from.posterior) + log_probs[unit]);
    if (promise > best_) {
      best_ = promise;
      cutoff_ = std::max(cutoff_, best_ - beam_);
    }
  }
}

// Gives every path that has just said the last unit of a word a token at the root, with the word in its history.
void Search::EndWords() {
  const Trees& trees = graph_.trees;
  const size_t count = next_.tokens().size();
  for (size_t i = 0; i < count; ++i) {
    const Token token = next_.tokens()[i];  // a copy: the table grows below
    const uint32_t node = token.place;
    if (node < graph_.domains.size() || token.said.score + Ahead(node) < cutoff_) continue;
    const uint32_t end = trees.entry[node + 1];
    for (uint32_t entry = trees.entry[node]; entry < end; ++entry) {
      const uint32_t word = trees.said[entry];
      const uint32_t root = graph_.DomainOf(word);
      const Step step = model_.Next(token.history, word);
      const float score = token.said.score + options_.lm_weight * step.log_probability + options_.word_score;
      if (score + Ahead(root) < cutoff_) continue;
      const uint32_t place = root | (static_cast<uint32_t>(trees.unit[node]) << kUnitShift);
      Path& path = next_.At(place, step.history).said;
      if (score <= path.score) continue;
      const uint32_t record = static_cast<uint32_t>(records_.size());
      records_.push_back(
          {token.said.record, word, token.said.start, static_cast<int32_t>(frame_), token.said.posterior});
      path = {score, record, static_cast<int32_t>(frame_), 0.0f};
    }
  }
}

// Keeps only the records that a token can still reach.
void Search::CollectRecords() {
  std::vector<uint32_t> place(records_.size(), 0);
  for (const Token& token : tokens_.tokens()) {
    place[token.said.record] = place[token.blank.record] = 1;
  }
  place[0] = 1;
  for (size_t i = records_.size(); i-- > 1;) {
    if (place[i] != 0) place[records_[i].before] = 1;
  }
  uint32_t kept = 0;
  for (size_t i = 0; i < records_.size(); ++i) {
    if (place[i] == 0) continue;
    records_[kept] = records_[i];
    records_[kept].before = place[records_[i].before];
    place[i] = kept++;
  }
  records_.resize(kept);
  for (Token& token : tokens_.tokens()) {
    token.said.record = place[token.said.record];
    token.blank.record = place[token.blank.record];
  }
  collect_at_ = std::max(kFirstCollection, 2 * records_.size());
}

double Search::Best(bool final, std::vector<FoundWord>* words) const {
  const Path* best = nullptr;
  float best_score = kImpossible;
  float best_partial = kImpossible;
  const Path* partial = nullptr;
  for (const Token& token : tokens_.tokens()) {
    const uint32_t node = token.place & kNode;
    const Path& path = token.best();
    const float promise = path.score + Ahead(node);
    if (promise > best_partial) {
      best_partial = promise;
      partial = &path;
    }
    if (!final || node >= graph_.domains.size()) continue;
    const Step end = model_.Next(token.history, graph_.domains[node].end_word);
    const float score = path.score + options_.lm_weight * end.log_probability;
    if (score > best_score) {
      best_score = score;
      best = &path;
    }
  }
  if (best == nullptr) {
    best = partial;
    best_score = best_partial;
  }
  words->clear();
  for (uint32_t at = best->record; at != 0; at = records_[at].before) {
    const Record& record = records_[at];
    const float frames = static_cast<float>(record.end - record.start + 1);
    words->push_back({static_cast<int32_t>(record.word), record.start, record.end,
                      std::min(1.0f, std::exp(record.posterior / frames))});
  }
  std::reverse(words->begin(), words->end());
  return offset_ + best_score;
}

}  // namespace deepthin::search
