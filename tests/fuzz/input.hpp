// An input of a fuzzer, read as a sequence of choices. What lies beyond its end is zero, so that
// every string of bytes means something, and a prefix of one means nearly the same.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace tally::fuzz {

// The line, and an end that the fuzzer keeps the input of.
#define FUZZ_CHECK(condition) \
  ((condition) ? void() : ::tally::fuzz::fail(__FILE__, __LINE__, #condition))

[[noreturn]] inline void fail(const char* file, int line, const char* what) {
  fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}

  bool is_empty() const { return at_ == end_; }
  size_t left() const { return static_cast<size_t>(end_ - at_); }
  uint8_t byte() { return is_empty() ? 0 : *at_++; }
  uint64_t number(unsigned bytes) {
    uint64_t all = 0;
    for (unsigned i = 0; i < bytes; ++i) all |= uint64_t{byte()} << (8 * i);
    return all;
  }
  // Of a byte's choices alone: n is at most 256.
  unsigned below(size_t n) { return static_cast<unsigned>(byte() % n); }
  std::string text(size_t most) {
    const size_t length = std::min(most, left());
    std::string text(reinterpret_cast<const char*>(at_), length);
    at_ += length;
    return text;
  }
  // Up to the next byte of that value, which is taken too.
  std::string line(uint8_t ends) {
    const uint8_t* found = std::find(at_, end_, ends);
    std::string text = this->text(static_cast<size_t>(found - at_));
    byte();
    return text;
  }
  std::string rest() { return text(left()); }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace tally::fuzz
