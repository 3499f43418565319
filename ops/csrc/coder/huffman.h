// Canonical Huffman codes: words of a length are consecutive numbers in the order of their symbols, and longer words
// follow shorter ones (Schwartz and Kallick 1964), so that the lengths of the words say it all. Most significant bit
// first. Short words are decoded by one look into a table, longer ones by the first word of each length.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "arithmetic.h"

namespace deepthin::coder {

constexpr int kLongestWord = 31;

// The words for given lengths; 0 stands for a symbol that does not occur.
class HuffmanCode {
 public:
  HuffmanCode(const uint8_t* lengths, int64_t alphabet) : lengths_(lengths, lengths + alphabet) {
    for (const uint8_t length : lengths_) {
      if (length > kLongestWord) throw BrokenStream("a word of the Huffman code is too long");
      if (length > 0) ++by_length_[length];
    }
    uint64_t space = 0;
    for (int length = 1; length <= kLongestWord; ++length) {
      first_index_[length] = static_cast<uint32_t>(ordered_.size());
      first_word_[length] = static_cast<uint32_t>(space >> (kLongestWord - length));
      for (int64_t symbol = 0; by_length_[length] > 0 && symbol < alphabet; ++symbol) {
        if (lengths_[symbol] == length) ordered_.push_back(static_cast<uint16_t>(symbol));
      }
      space += uint64_t{by_length_[length]} << (kLongestWord - length);
    }
    // Only in a complete code is every row of bits a word; a code of one symbol is the exception.
    const bool single = ordered_.size() == 1 && by_length_[1] == 1;
    if (space != uint64_t{1} << kLongestWord && !single) throw BrokenStream("the Huffman code is not complete");
  }

  const std::vector<uint16_t>& ordered() const { return ordered_; }  // symbols by length, then by number
  uint32_t count(int length) const { return by_length_[length]; }
  uint32_t first_word(int length) const { return first_word_[length]; }
  uint32_t first_index(int length) const { return first_index_[length]; }

 private:
  std::vector<uint8_t> lengths_;
  std::vector<uint16_t> ordered_;
  uint32_t by_length_[kLongestWord + 1] = {};
  uint32_t first_word_[kLongestWord + 1] = {};
  uint32_t first_index_[kLongestWord + 1] = {};
};

// Returns the bytes written.
template <class Symbol>
int64_t HuffmanEncode(const HuffmanCode& code, const Symbol* symbols, int64_t count, uint8_t* out, int64_t capacity) {
  struct Word {
    uint32_t bits;
    uint32_t length;
  };
  std::vector<Word> words(size_t{1} << (8 * sizeof(Symbol)), Word{0, 0});
  for (int length = 1; length <= kLongestWord; ++length) {
    for (uint32_t i = 0; i < code.count(length); ++i) {
      words.at(code.ordered()[code.first_index(length) + i]) = {code.first_word(length) + i,
                                                                static_cast<uint32_t>(length)};
    }
  }
  uint8_t* next = out;
  const uint8_t* end = out + capacity;
  uint64_t held = 0;  // the last `filled` bits are still to be written
  uint32_t filled = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Word word = words[symbols[i]];
    if (word.length == 0) throw std::invalid_argument("a symbol has no word in the Huffman code");
    held = held << word.length | word.bits;
    filled += word.length;
    if (filled >= 32) {
      if (end - next < 4) throw NoRoom();
      filled -= 32;
      const uint32_t whole = __builtin_bswap32(static_cast<uint32_t>(held >> filled));
      std::memcpy(next, &whole, 4);
      next += 4;
    }
  }
  for (; filled > 0; filled -= filled < 8 ? filled : 8) {
    if (next == end) throw NoRoom();
    *next++ = static_cast<uint8_t>(filled >= 8 ? held >> (filled - 8) : held << (8 - filled));
  }
  return next - out;
}

template <class Symbol>
void HuffmanDecode(const HuffmanCode& code, const uint8_t* stream, int64_t size, Symbol* symbols, int64_t count) {
  constexpr int kTableBits = 11;
  struct Entry {
    uint16_t symbol;
    uint16_t length;  // 0: the word is longer than the table is wide, or there is none
  };
  std::vector<Entry> table(size_t{1} << kTableBits, Entry{0, 0});
  uint64_t limit[kLongestWord + 1];  // the first row of bits, at the left of 32, that no word up to this length begins
  for (int length = 1; length <= kLongestWord; ++length) {
    const uint64_t behind = uint64_t{code.first_word(length)} + code.count(length);
    limit[length] = behind << (32 - length);
    if (length > kTableBits) continue;
    for (uint32_t i = 0; i < code.count(length); ++i) {
      const uint32_t from = (code.first_word(length) + i) << (kTableBits - length);
      const Entry entry{code.ordered()[code.first_index(length) + i], static_cast<uint16_t>(length)};
      for (uint32_t row = 0; row < uint32_t{1} << (kTableBits - length); ++row) table[from + row] = entry;
    }
  }
  const uint8_t* next = stream;
  const uint8_t* end = stream + size;
  uint64_t held = 0;  // the next bits, at the left; zeros behind the stream's end
  int filled = 0;
  uint64_t used = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (filled < 32) {
      if (end - next >= 8) {
        uint64_t whole;
        std::memcpy(&whole, next, 8);
        held |= __builtin_bswap64(whole) >> filled;
        next += (63 - filled) >> 3;
        filled |= 56;
      } else {
        for (; filled <= 56; filled += 8) {
          if (next < end) held |= uint64_t{*next++} << (56 - filled);
        }
      }
    }
    Entry entry = table[held >> (64 - kTableBits)];
    if (entry.length == 0) {
      const uint32_t row = static_cast<uint32_t>(held >> 32);
      int length = kTableBits + 1;
      while (length <= kLongestWord && row >= limit[length]) ++length;
      if (length > kLongestWord) throw BrokenStream("the Huffman stream has a word of no symbol");
      const uint32_t place = (row >> (32 - length)) - code.first_word(length);
      entry = {code.ordered()[code.first_index(length) + place], static_cast<uint16_t>(length)};
    }
    symbols[i] = static_cast<Symbol>(entry.symbol);
    held <<= entry.length;
    filled -= entry.length;
    used += entry.length;
  }
  if ((used + 7) / 8 != static_cast<uint64_t>(size)) {
    throw BrokenStream("the Huffman stream does not end where its symbols do");
  }
}

}  // namespace deepthin::coder
