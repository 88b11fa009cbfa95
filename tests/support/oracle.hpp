// What a test itself knows about a tag, kept by means that are not Tally's statistics: the sum of
// counted_bytes and its own counts.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

#include "tally_test.h"

struct Oracle {
  uint64_t allocs = 0, frees = 0, requested = 0, live = 0;

  // Both return the block, so that they wrap a call.
  void* allocated(void* p, size_t asked) {
    EXPECT_NE(p, nullptr) << asked;
    allocs++;
    requested += asked;
    live += counted_bytes(p);
    return p;
  }
  void* freeing(void* p) {
    frees++;
    live -= counted_bytes(p);
    return p;
  }
  Oracle& operator+=(const Oracle& other) {
    allocs += other.allocs;
    frees += other.frees;
    requested += other.requested;
    live += other.live;
    return *this;
  }
  // `since` is what the tag had before this oracle began.
  void expect_matches(const tally_counts& now, const tally_counts& since = {}) const {
    EXPECT_EQ(now.live_bytes - since.live_bytes, live);
    EXPECT_EQ(now.live_blocks - since.live_blocks, allocs - frees);
    EXPECT_EQ(now.alloc_count - since.alloc_count, allocs);
    EXPECT_EQ(now.free_count - since.free_count, frees);
    EXPECT_EQ(now.requested_bytes - since.requested_bytes, requested);
  }
};

// What holds for a tag's counts at any moment, threads running or not.
inline void expect_sane(const tally_counts& counts) {
  constexpr uint64_t kTooMuch = uint64_t{1} << 60;  // what a negative figure would look like
  EXPECT_LT(counts.live_bytes, kTooMuch);
  EXPECT_LT(counts.live_blocks, kTooMuch);
  EXPECT_LT(counts.footprint_bytes, kTooMuch);
  EXPECT_LT(counts.large_live_bytes, kTooMuch);
  EXPECT_LT(counts.large_live_blocks, kTooMuch);
  EXPECT_LE(counts.live_bytes, counts.footprint_bytes);
  EXPECT_LE(counts.footprint_bytes, counts.peak_footprint_bytes);
  EXPECT_EQ(counts.alloc_count - counts.free_count, counts.live_blocks);
}

// And at rest, when the figures are of one moment.
inline void expect_sane_at_rest(const tally_counts& counts) {
  expect_sane(counts);
  EXPECT_LE(counts.live_blocks, counts.live_bytes);
  EXPECT_LE(counts.large_live_bytes, counts.live_bytes);
  EXPECT_LE(counts.large_live_blocks, counts.live_blocks);
}
