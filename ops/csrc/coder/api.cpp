// C interface of the coders, for ctypes. Every function returns a negative number when it fails and writes the
// reason to `error`, which holds kErrorSize bytes. A stream is hostile: nothing is read or written out of bounds.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

#include "arithmetic.h"
#include "huffman.h"
#include "static_model.h"

#define DEEPTHIN_CODER_API extern "C" __attribute__((visibility("default")))

namespace {

using namespace deepthin::coder;

constexpr size_t kErrorSize = 256;
constexpr int64_t kFailed = -1;
constexpr int64_t kNoRoom = -2;
constexpr int kAlphabetBits = 16;

template <class Symbol>
int64_t Encode(const Symbol* symbols, int64_t count, uint8_t* stream, int64_t capacity) {
  if (count <= 0) return 0;
  std::vector<uint64_t> counts(size_t{1} << (8 * sizeof(Symbol)));
  for (int64_t i = 0; i < count; ++i) ++counts[symbols[i]];
  while (counts.back() == 0) counts.pop_back();

  Encoder coder(stream, stream + capacity);
  auto last = static_cast<uint32_t>(counts.size() - 1);
  coder.Uniform(kAlphabetBits, last);
  CodeCounts(coder, counts);
  const StaticModel model(counts);
  if (model.symbols().size() > 1) {
    struct Interval {
      uint32_t start, size;
    };
    std::vector<Interval> intervals(counts.size());
    for (size_t i = 0; i < model.symbols().size(); ++i) {
      intervals[model.symbols()[i]] = {model.starts()[i], model.starts()[i + 1] - model.starts()[i]};
    }
    Encoder local = coder;  // its address stays here, so that it can live in registers
    const Interval* table = intervals.data();
    for (int64_t i = 0; i < count; ++i) {
      const Interval interval = table[symbols[i]];
      local.Put(interval.start, interval.size, kScaleBits);
    }
    coder = local;
  }
  return coder.Finish();
}

template <class Symbol>
void Decode(const uint8_t* stream, int64_t size, Symbol* symbols, int64_t count) {
  if (count <= 0) {
    if (size != 0) throw BrokenStream("the stream of no symbols is not empty");
    return;
  }
  Decoder coder(stream, size);
  uint32_t last = 0;
  coder.Uniform(kAlphabetBits, last);
  if (last >> (8 * sizeof(Symbol)) != 0) throw BrokenStream("the stream has symbols of another width");
  std::vector<uint64_t> counts(last + 1);
  CodeCounts(coder, counts);
  const StaticModel model(counts);
  if (model.symbols().size() == 1) {
    coder.Finish();
    std::fill(symbols, symbols + count, static_cast<Symbol>(model.symbols()[0]));
    return;
  }
  const Lookup lookup(model);
  Decoder local = coder;  // its address stays here, so that it can live in registers
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t index = lookup.Find(local.Peek(kScaleBits));
    local.Skip(lookup.start(index), lookup.size(index));
    symbols[i] = static_cast<Symbol>(lookup.symbol(index));
  }
  local.Finish();
}

void CheckAlphabet(int64_t alphabet, int32_t width) {
  if (alphabet < 0 || alphabet > int64_t{1} << (8 * width)) throw BrokenStream("the alphabet has too many symbols");
}

template <class Call>
int64_t Guarded(char* error, Call call) {
  try {
    return call();
  } catch (const NoRoom& problem) {
    std::snprintf(error, kErrorSize, "%s", problem.what());
    return kNoRoom;
  } catch (const std::exception& problem) {
    std::snprintf(error, kErrorSize, "%s", problem.what());
    return kFailed;
  }
}

}  // namespace

// Codes `count` symbols of `width` bytes (1 or 2) with their own counts; returns the stream's size, or kNoRoom when
// `capacity` bytes do not hold it.
DEEPTHIN_CODER_API int64_t deepthin_range_encode(const void* symbols, int32_t width, int64_t count, uint8_t* stream,
                                                 int64_t capacity, char* error) {
  return Guarded(error, [&]() -> int64_t {
    if (count > kMostSymbols) throw std::invalid_argument("too many symbols for one stream");
    return width == 1 ? Encode(static_cast<const uint8_t*>(symbols), count, stream, capacity)
                      : Encode(static_cast<const uint16_t*>(symbols), count, stream, capacity);
  });
}

// Decodes the `count` symbols of a stream; returns 0.
DEEPTHIN_CODER_API int64_t deepthin_range_decode(const uint8_t* stream, int64_t size, int32_t width, void* symbols,
                                                 int64_t count, char* error) {
  return Guarded(error, [&]() -> int64_t {
    if (width == 1) {
      Decode(stream, size, static_cast<uint8_t*>(symbols), count);
    } else {
      Decode(stream, size, static_cast<uint16_t*>(symbols), count);
    }
    return 0;
  });
}

// Codes `count` symbols with the canonical code whose words have these lengths, one byte for each symbol of the
// `alphabet`; returns the stream's size, or kNoRoom when `capacity` bytes do not hold it.
DEEPTHIN_CODER_API int64_t deepthin_huffman_encode(const void* symbols, int32_t width, int64_t count,
                                                   const uint8_t* lengths, int64_t alphabet, uint8_t* stream,
                                                   int64_t capacity, char* error) {
  return Guarded(error, [&]() -> int64_t {
    CheckAlphabet(alphabet, width);
    const HuffmanCode code(lengths, alphabet);
    return width == 1 ? HuffmanEncode(code, static_cast<const uint8_t*>(symbols), count, stream, capacity)
                      : HuffmanEncode(code, static_cast<const uint16_t*>(symbols), count, stream, capacity);
  });
}

// Decodes the `count` symbols of a stream; returns 0.
DEEPTHIN_CODER_API int64_t deepthin_huffman_decode(const uint8_t* stream, int64_t size, const uint8_t* lengths,
                                                   int64_t alphabet, int32_t width, void* symbols, int64_t count,
                                                   char* error) {
  return Guarded(error, [&]() -> int64_t {
    CheckAlphabet(alphabet, width);
    const HuffmanCode code(lengths, alphabet);
    if (width == 1) {
      HuffmanDecode(code, stream, size, static_cast<uint8_t*>(symbols), count);
    } else {
      HuffmanDecode(code, stream, size, static_cast<uint16_t*>(symbols), count);
    }
    return 0;
  });
}
