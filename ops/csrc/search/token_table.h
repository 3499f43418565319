// The tokens of one frame, found by (tree node, language-model history).
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace deepthin::search {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// The best path that ends in one way.
struct Path {
  float score = kImpossible;
  uint32_t record = 0;     // last finished word
  int32_t start = 0;       // first frame of the unfinished word
  float posterior = 0;     // sum of log posteriors since then
};

struct Token {
  // Tree node; at a root the last unit, when the path still says it, is in the upper eight bits.
  uint32_t place;
  uint32_t history;
  Path said;   // the last frame said the node's unit
  Path blank;  // the last frame said blank, or nothing was said yet

  const Path& best() const { return said.score > blank.score ? said : blank; }
};

class TokenTable {
 public:
  TokenTable() : slots_(1u << 12) {}

  Token& At(uint32_t place, uint32_t history) {
    if (tokens_.size() * 2 >= slots_.size()) Grow();
    Slot& slot = Find(place, history);
    if (slot.round != round_) {
      slot = {round_, static_cast<uint32_t>(tokens_.size())};
      tokens_.push_back({place, history, {}, {}});
    }
    return tokens_[slot.index];
  }

  void Clear() {
    tokens_.clear();
    ++round_;
    if (round_ == 0) {
      slots_.assign(slots_.size(), Slot{});
      round_ = 1;
    }
  }

  std::vector<Token>& tokens() { return tokens_; }
  const std::vector<Token>& tokens() const { return tokens_; }

 private:
  struct Slot {
    uint32_t round = 0;  // the slot is free when this is not the table's
    uint32_t index = 0;
  };

  Slot& Find(uint32_t place, uint32_t history) {
    const uint64_t key = (uint64_t{place} << 32) | history;
    const size_t mask = slots_.size() - 1;
    size_t at = static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (slots_[at].round == round_) {
      const Token& token = tokens_[slots_[at].index];
      if (token.place == place && token.history == history) break;
      at = (at + 1) & mask;
    }
    return slots_[at];
  }

  void Grow() {
    slots_.assign(slots_.size() * 2, Slot{});
    for (uint32_t index = 0; index < tokens_.size(); ++index) {
      Find(tokens_[index].place, tokens_[index].history) = {round_, index};
    }
  }

  std::vector<Slot> slots_;
  std::vector<Token> tokens_;
  uint32_t round_ = 1;
};

}  // namespace deepthin::search
