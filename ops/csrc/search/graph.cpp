#include "graph.h"

#include <cstring>

namespace deepthin::search {
namespace {

constexpr size_t kHeader = 16;
constexpr size_t kEntry = 32;

template <typename T>
T Read(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

class Sections {
 public:
  Sections(const uint8_t* data, size_t size) : data_(data), size_(size) {
    if (size < kHeader || std::memcmp(data, "DTGRAPH\0", 8) != 0) throw GraphError("not a decoding graph");
    const uint32_t version = Read<uint32_t>(data + 8);
    if (version != kVersion) {
      throw GraphError("graph format version " + std::to_string(version) + ", this library reads version " +
                       std::to_string(kVersion));
    }
    count_ = Read<uint32_t>(data + 12);
    if (count_ > (size - kHeader) / kEntry) throw GraphError("truncated: its list of sections is cut off");
  }

  // Returns the section and its length; throws when it is not there or reaches past the end.
  const uint8_t* Find(const std::string& name, uint64_t* bytes) const {
    for (uint32_t i = 0; i < count_; ++i) {
      const uint8_t* entry = data_ + kHeader + i * kEntry;
      char stored[17] = {};
      std::memcpy(stored, entry, 16);
      if (name != stored) continue;
      const uint64_t offset = Read<uint64_t>(entry + 16);
      *bytes = Read<uint64_t>(entry + 24);
      if (offset % 64 != 0 || offset > size_ || *bytes > size_ - offset) {
        throw GraphError("truncated: section " + name + " reaches past the end");
      }
      return data_ + offset;
    }
    throw GraphError("section " + name + " is missing");
  }

  template <typename T>
  const T* Array(const std::string& name, uint64_t count) const {
    uint64_t bytes = 0;
    const uint8_t* data = Find(name, &bytes);
    if (bytes != count * sizeof(T)) throw GraphError("section " + name + " has the wrong length");
    return reinterpret_cast<const T*>(data);
  }

  // A packed array starts with u64 bits, u64 count.
  PackedArray Packed(const std::string& name) const {
    uint64_t bytes = 0;
    const uint8_t* data = Find(name, &bytes);
    if (bytes < 24) throw GraphError("section " + name + " has the wrong length");
    const uint64_t bits = Read<uint64_t>(data);
    const uint64_t count = Read<uint64_t>(data + 8);
    if (bits < 1 || bits > 32 || count > size_ * 8 || bytes != 16 + (count * bits + 7) / 8 + 8) {
      throw GraphError("section " + name + " has the wrong length");
    }
    return PackedArray(data + 16, static_cast<uint32_t>(bits), count);
  }

 private:
  const uint8_t* data_;
  size_t size_;
  uint32_t count_ = 0;
};

void CheckRange(const PackedArray& starts, uint64_t expected, uint64_t limit, const char* what) {
  if (starts.size() != expected) throw GraphError(std::string(what) + " has the wrong length");
  uint32_t before = 0;
  for (uint64_t i = 0; i < expected; ++i) {
    const uint32_t value = starts[i];
    if (value < before || value > limit) throw GraphError(std::string(what) + " is out of order");
    before = value;
  }
}

void CheckBelow(const PackedArray& values, uint64_t limit, const char* what) {
  for (uint64_t i = 0; i < values.size(); ++i) {
    if (values[i] >= limit) throw GraphError(std::string(what) + " is out of range");
  }
}

void LoadOrder(const Sections& sections, uint32_t order, Graph* graph) {
  NgramOrder& level = graph->ngrams[order - 1];
  const std::string tail = "." + std::to_string(order);
  if (order == 1) {
    level.count = graph->words;
    level.direct = sections.Array<float>("prob" + tail, level.count);
  } else {
    level.word = sections.Packed("word" + tail);
    level.count = level.word.size();
    CheckBelow(level.word, graph->words, "an n-gram's word");
    level.code = sections.Array<uint8_t>("prob" + tail, level.count);
    level.probabilities = sections.Array<float>("probs" + tail, 256);
    const NgramOrder& below = graph->ngrams[order - 2];
    CheckRange(below.begin, below.begin.size(), level.count, "an n-gram's list of children");
  }
  if (order == graph->orders) return;
  const uint64_t blocks = level.count / RankedBits::kBlock + 1;
  const uint64_t* bits = sections.Array<uint64_t>("inner" + tail, blocks * (RankedBits::kBlock / 64));
  const uint32_t* ranks = sections.Array<uint32_t>("rank" + tail, blocks);
  level.inner = RankedBits(bits, ranks, level.count);
  level.begin = sections.Packed("begin" + tail);
  uint64_t members = 0;
  for (uint64_t i = 0; i < blocks * (RankedBits::kBlock / 64); ++i) {
    if (i % (RankedBits::kBlock / 64) == 0 && ranks[i / (RankedBits::kBlock / 64)] != members) {
      throw GraphError("an n-gram order's ranks are wrong");
    }
    members += static_cast<uint64_t>(__builtin_popcountll(bits[i]));
  }
  if (level.begin.size() != members + 1) throw GraphError("an n-gram order's ranks are wrong");
  level.backoff_code = sections.Array<uint8_t>("back" + tail, members);
  level.backoffs = sections.Array<float>("backs" + tail, 256);
}

void LoadTrees(const Sections& sections, Graph* graph) {
  Trees& trees = graph->trees;
  trees.child = sections.Packed("child");
  if (trees.child.size() <= graph->domains.size()) throw GraphError("the lexicon trees have no nodes");
  trees.nodes = static_cast<uint32_t>(trees.child.size() - 1);
  if (trees.nodes >= (1u << 24)) throw GraphError("the lexicon trees have too many nodes");
  trees.unit = sections.Array<uint8_t>("unit", trees.nodes);
  trees.ahead_code = sections.Array<uint8_t>("ahead", trees.nodes);
  trees.aheads = sections.Array<float>("aheads", 256);
  trees.entry = sections.Packed("entry");
  trees.said = sections.Packed("said");
  CheckRange(trees.child, trees.nodes + 1, trees.nodes, "the lexicon trees' list of children");
  CheckRange(trees.entry, trees.nodes + 1, trees.said.size(), "the lexicon trees' list of words");
  CheckBelow(trees.said, graph->words, "a word of the lexicon trees");
  for (uint32_t node = 0; node < trees.nodes; ++node) {
    if (trees.unit[node] >= graph->units) throw GraphError("a unit of the lexicon trees is out of range");
  }
}

}  // namespace

Graph::Graph(const uint8_t* data, size_t size) {
  const Sections sections(data, size);
  const uint32_t* shape = sections.Array<uint32_t>("shape", 4);
  units = shape[0];
  words = shape[1];
  orders = shape[2];
  const uint32_t kinds = shape[3];
  if (units < 2 || units > 255 || orders < 1 || orders > kMostOrders || kinds < 1 || kinds > 16) {
    throw GraphError("its shape makes no sense");
  }
  const Domain* stored = sections.Array<Domain>("domain", kinds);
  domains.assign(stored, stored + kinds);
  for (uint32_t i = 0; i < kinds; ++i) {
    const Domain& domain = domains[i];
    if (domain.first_word != 0 && i == 0) throw GraphError("its first domain does not start at word 0");
    if (domain.start_word >= words || domain.end_word >= words || domain.first_word >= words) {
      throw GraphError("a domain's words are out of range");
    }
  }
  for (uint32_t order = 1; order <= orders; ++order) LoadOrder(sections, order, this);
  LoadTrees(sections, this);
}

}  // namespace deepthin::search
