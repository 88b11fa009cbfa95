#include "base/counter.h"

#include <atomic>

#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

TEST(OwnerCounter, AddsAndSubtracts) {
  OwnerCounter counter;
  EXPECT_EQ(counter.get(), 0U);
  counter.add(1);
  counter.add(uint64_t{1} << 40);  // no immediate operand holds it
  counter.sub(1);
  EXPECT_EQ(counter.get(), uint64_t{1} << 40);
  counter.set(UINT64_MAX);
  counter.add(2);
  EXPECT_EQ(counter.get(), 1U);
}

TEST(OwnerCounter, AReaderSeesItGrow) {
  constexpr uint64_t kTurns = 300000;
  OwnerCounter counter;
  std::thread writer([&] {
    for (uint64_t i = 0; i < kTurns; ++i) counter.add(3);
  });
  for (uint64_t last = 0; last != 3 * kTurns;) {
    uint64_t now = counter.get();
    ASSERT_GE(now, last);
    ASSERT_EQ(now % 3, 0U);
    last = now;
  }
  writer.join();
}

TEST(Level, TheEventComesAtTheFloorAndOnlyThere) {
  for (uint32_t out = 1; out < 40; ++out) {
    for (uint32_t floor = 0; floor < out; ++floor) {
      Level level;
      level.set(out, floor);
      ASSERT_EQ(level.floor(), floor);
      for (uint32_t left = out; left > floor; --left) {
        ASSERT_EQ(level.out(), left);
        ASSERT_EQ(level.count_down(), left - 1 == floor);
      }
      ASSERT_EQ(level.out(), floor);
    }
  }
}

TEST(Level, HoldsTheLargestSlab) {
  Level level;
  level.set(4096, 3584);
  EXPECT_EQ(level.out(), 4096U);
  EXPECT_EQ(level.floor(), 3584U);
  level.set(0, 0);
  EXPECT_EQ(level.out(), 0U);
}

// A new floor changes both halves of the word, and must never show as another number of blocks out.
TEST(Level, AReaderSeesCountdownAndFloorOfOneMoment) {
  Level level;
  level.set(4000, 3500);
  std::atomic<bool> stop{false};
  std::thread owner([&] {
    for (int turn = 0; turn < 2000; ++turn) {
      for (int i = 0; i < 100; ++i) level.count_down();
      level.set(level.out(), turn % 2 == 0 ? 0 : 3500);
      level.set(4000, turn % 2 == 0 ? 3500 : 0);
    }
    stop.store(true);
  });
  while (!stop.load()) {
    uint32_t out = level.out();
    ASSERT_LE(out, 4000U);
    ASSERT_GE(out, 3900U);
  }
  owner.join();
}

}  // namespace
}  // namespace tally::unit
