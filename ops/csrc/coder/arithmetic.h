// A carry-propagating range coder with 64-bit registers that moves whole bytes: after each symbol at least 56 bits of
// the range are left, so models may scale their probabilities to 2^28 without a loss that counts.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace deepthin::coder {

class BrokenStream : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class NoRoom : public std::runtime_error {
 public:
  NoRoom() : std::runtime_error("the stream is larger than the room for it") {}
};

// Probability of one binary decision, learnt along the way: the mean of what it has seen, then an exponential average.
class AdaptiveBit {
 public:
  static constexpr int kBits = 16;

  uint32_t zero() const { return zero_; }

  void Learn(bool bit) {
    const int32_t target = bit ? kLeast : (1 << kBits) - kLeast;
    zero_ += 2 * (target - zero_) / (2 * seen_ + 3);
    if (seen_ < kMemory) ++seen_;
  }

 private:
  static constexpr int32_t kLeast = 64;
  static constexpr int32_t kMemory = 127;

  int32_t zero_ = 1 << (kBits - 1);
  int32_t seen_ = 0;
};

class Encoder {
 public:
  Encoder(uint8_t* begin, uint8_t* end) : begin_(begin), next_(begin), end_(end) {}

  // The interval [start, start + size) of [0, 2^bits); bits is at most 28.
  void Put(uint32_t start, uint32_t size, int bits) {
    const uint64_t step = range_ >> bits;
    Raise(step * start);
    range_ = step * size;
    Normalise();
  }

  void Bit(AdaptiveBit& model, bool& bit) {
    const uint64_t bound = (range_ >> AdaptiveBit::kBits) * model.zero();
    if (bit) {
      Raise(bound);
      range_ -= bound;
    } else {
      range_ = bound;
    }
    model.Learn(bit);
    Normalise();
  }

  // `bits` equally probable bits, at most 28.
  void Uniform(int bits, uint32_t& value) { Put(value, 1, bits); }

  // One byte is enough: some multiple of 2^56 always lies in the range.
  int64_t Finish() {
    constexpr uint64_t kRest = (uint64_t{1} << 56) - 1;
    Raise(kRest);
    if (next_ == end_) throw NoRoom();
    *next_++ = static_cast<uint8_t>(low_ >> 56);
    return next_ - begin_;
  }

 private:
  void Raise(uint64_t amount) {
    low_ += amount;
    if (low_ < amount) Carry(next_);
  }

  // Stops before `begin_`: the coded number is below 1.
  static void Carry(uint8_t* next) {
    while (++*--next == 0) {
    }
  }

  void Normalise() {
    if (end_ - next_ < 8) throw NoRoom();
    const int bytes = __builtin_clzll(range_) >> 3;
    const uint64_t ordered = __builtin_bswap64(low_);
    std::memcpy(next_, &ordered, 8);
    next_ += bytes;
    low_ <<= 8 * bytes;
    range_ <<= 8 * bytes;
  }

  uint64_t low_ = 0;
  uint64_t range_ = ~uint64_t{0};
  uint8_t* begin_;
  uint8_t* next_;
  uint8_t* end_;
};

// Reads what Encoder wrote. Behind the end of the stream there are zeros, but never more of them than Encoder left off.
class Decoder {
 public:
  Decoder(const uint8_t* stream, int64_t size) : next_(stream), left_(size) { Shift(8); }

  // Where in [0, 2^bits) the next symbol lies; Skip must follow with the symbol's interval.
  uint32_t Peek(int bits) {
    step_ = range_ >> bits;
    const uint64_t place = code_ / step_;
    if (place >> bits != 0) throw BrokenStream("the stream is corrupted");
    return static_cast<uint32_t>(place);
  }

  void Skip(uint32_t start, uint32_t size) {
    code_ -= step_ * start;
    range_ = step_ * size;
    Normalise();
  }

  void Bit(AdaptiveBit& model, bool& bit) {
    const uint64_t bound = (range_ >> AdaptiveBit::kBits) * model.zero();
    bit = code_ >= bound;
    if (bit) {
      code_ -= bound;
      range_ -= bound;
    } else {
      range_ = bound;
    }
    model.Learn(bit);
    Normalise();
  }

  void Uniform(int bits, uint32_t& value) {
    value = Peek(bits);
    Skip(value, 1);
  }

  // Encoder's last byte must have been the last byte here.
  void Finish() const {
    if (left_ != -7 || code_ >> 56 != 0) throw BrokenStream("the stream does not end where its symbols do");
  }

 private:
  void Normalise() {
    const int bytes = __builtin_clzll(range_) >> 3;
    range_ <<= 8 * bytes;
    Shift(bytes);
  }

  void Shift(int bytes) {
    uint64_t ordered = 0;
    if (left_ >= 8) {
      std::memcpy(&ordered, next_, 8);
    } else if (left_ > 0) {
      std::memcpy(&ordered, next_, static_cast<size_t>(left_));
    }
    next_ += bytes;
    left_ -= bytes;
    if (left_ < -7) throw BrokenStream("the stream is truncated");
    const int bits = 8 * bytes;
    // In two steps, as no shift by 64 is defined.
    code_ = bits == 64 ? 0 : code_ << bits;
    code_ |= bits == 0 ? 0 : __builtin_bswap64(ordered) >> (64 - bits);
  }

  uint64_t code_ = 0;
  uint64_t range_ = ~uint64_t{0};
  uint64_t step_ = 1;
  const uint8_t* next_;
  int64_t left_;
};

}  // namespace deepthin::coder
