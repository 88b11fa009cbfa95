// What the unit tests share.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "base/options.h"
#include "heap/heap.h"
#include "memory/address_map.h"
#include "tag/tag.h"
#include "tally/tally.h"

namespace tally::unit {

// Runs it on a thread of its own, to that thread's end.
template <class F>
void on_thread(F&& body) {
  std::thread(std::forward<F>(body)).join();
}

inline tally_tag make_tag(const char* path) {
  tally_tag tag = tally_tag_create(path);
  EXPECT_NE(tag, TALLY_TAG_NONE) << path;
  return tag;
}

inline tally_stats_t stats(tally_tag tag) {
  tally_stats_t stats = {};
  stats.size = sizeof stats;
  EXPECT_EQ(tally_stats(tag, &stats), 0);
  return stats;
}
inline tally_counts own(tally_tag tag) { return stats(tag).own; }

inline core::Slab* slab_of(const void* p) { return core::address_map.find(p); }

// From here on no large block is closed as it is freed, as none is twice as large as this one.
inline void close_no_more() {
  tally_free(tally_malloc(TALLY_TAG_ROOT, 16 * core::MiB));
  tally_trim();
}

// This thread's heap for the tag; nullptr if it has none.
inline core::Heap* heap_of(tally_tag tag) { return core::tls.thread->find_heap(tag); }

// Cheap, repeatable and the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  uint64_t below(uint64_t n) { return next() % n; }

 private:
  uint64_t state_;
};

// Fills a block so that it says later whether it is still the same.
inline void fill(void* p, size_t n, unsigned seed) {
  memset(p, static_cast<int>(seed % 251 + 1), n);
}
// All n bytes are the same as the first: each is compared with the one before it.
inline bool is_uniform(const unsigned char* bytes, size_t n) {
  return n < 2 || memcmp(bytes, bytes + 1, n - 1) == 0;
}
inline bool is_filled(const void* p, size_t n, unsigned seed) {
  auto* bytes = static_cast<const unsigned char*>(p);
  return n == 0 || (bytes[0] == seed % 251 + 1 && is_uniform(bytes, n));
}
inline bool is_zero(const void* p, size_t n) {
  auto* bytes = static_cast<const unsigned char*>(p);
  return n == 0 || (bytes[0] == 0 && is_uniform(bytes, n));
}

// Options as they were, whatever a test does to them.
class KeepOptions {
 public:
  ~KeepOptions() { core::options = saved_; }

 private:
  core::Options saved_ = core::options;
};

}  // namespace tally::unit
