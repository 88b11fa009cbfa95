// Blocks whose content tells whether they are what they were, and sizes worth trying.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

// The byte at i of a block filled from this seed.
inline unsigned char pattern_byte(uint32_t seed, size_t i) {
  return static_cast<unsigned char>((seed * 2654435761u + i * 40503u) >> 8);
}

// The places that are written and checked in a block of `size` bytes, as far as they lie below
// `limit`: all of a small block, both ends and one byte a page of a large one.
template <class Visit>
void visit_places(size_t size, size_t limit, Visit visit) {
  constexpr size_t kWhole = 4096, kEdge = 256, kStep = 4096;
  const size_t head = size <= kWhole ? size : kEdge;
  for (size_t i = 0; i < std::min(head, limit); i++) visit(i);
  if (size <= kWhole) return;
  for (size_t i = kEdge; i < std::min(size - kEdge, limit); i += kStep) visit(i);
  for (size_t i = size - kEdge; i < std::min(size, limit); i++) visit(i);
}

inline void fill(void* p, size_t size, uint32_t seed) {
  auto* bytes = static_cast<unsigned char*>(p);
  visit_places(size, size, [&](size_t i) { bytes[i] = pattern_byte(seed, i); });
}

// Whether the first `limit` bytes of a block that was filled as one of `size` bytes are unharmed.
inline bool is_filled(const void* p, size_t size, uint32_t seed, size_t limit = SIZE_MAX) {
  const auto* bytes = static_cast<const unsigned char*>(p);
  bool same = true;
  visit_places(size, limit, [&](size_t i) { same = same && bytes[i] == pattern_byte(seed, i); });
  return same;
}

inline bool is_zero(const char* from, const char* to) {
  return std::all_of(from, to, [](char c) { return c == 0; });
}

// Every size to 1,100, then each power of two and its quarters with their neighbours, to `max`.
inline std::vector<size_t> sizes_to(size_t max) {
  std::vector<size_t> sizes;
  for (size_t n = 0; n <= std::min<size_t>(max, 1100); n++) sizes.push_back(n);
  for (size_t power = 1024; power <= max; power *= 2) {
    for (size_t quarter = 0; quarter < 4; quarter++) {
      const size_t n = power + power / 4 * quarter;
      for (size_t near : {n - 1, n, n + 1}) {
        if (near > 1100 && near <= max) sizes.push_back(near);
      }
    }
  }
  return sizes;
}

// xorshift64*: the same numbers everywhere for the same seed.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u | 1) {}
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1du;
  }
  uint64_t below(uint64_t n) { return (next() >> 11) % n; }

 private:
  uint64_t state_;
};
