#include "memory/hardened.h"

#include <gtest/gtest.h>
#include <string.h>

#include <set>
#include <vector>

#include "memory/slab.h"

namespace tally::core::hardened {
namespace {

static_assert(kHardened, "this test is compiled as libtally-hardened.so is");

class Blocks : public testing::Test {
 protected:
  static constexpr size_t kMost = kMediumMax;

  void SetUp() override { start(); }
  // Where a block of the class may lie: its neighbours are filled, and must stay as they are.
  char* block() { return memory_ + 64; }
  const char* block() const { return memory_ + 64; }
  void fill() { memset(memory_, 0x5a, sizeof memory_); }
  bool neighbours_are_whole(size_t size) const {
    auto whole = [this](size_t from, size_t to) {
      for (size_t i = from; i < to; ++i) {
        if (memory_[i] != 0x5a) return false;
      }
      return true;
    };
    return whole(0, 64) && whole(64 + size, sizeof memory_);
  }
  Seal seal(size_t size) { return look_at_seal(block(), size); }
  // Short blocks have a way of their own, which is to say the same.
  void make_live(size_t size, size_t n) {
    auto* opened = reinterpret_cast<Block*>(block());
    size <= kWipedInline ? open<true>(opened, canary_of(block()), size, n)
                         : open(opened, canary_of(block()), size, n);
  }
  bool is_live_and_whole(size_t size) const {
    const uint64_t canary = canary_of(block());
    const bool is_so = is_sound(block(), canary, size, true);
    if (size <= kWipedInline) {
      EXPECT_EQ(is_sound<true>(block(), canary, size, true), is_so);
    }
    return is_so;
  }
  bool is_free_and_whole(size_t size) const {
    const auto* free_block = reinterpret_cast<const Block*>(block());
    const bool is_so = is_untouched(free_block, canary_of(block()), size, true);
    if (size <= kWipedInline) {
      EXPECT_EQ(is_untouched<true>(free_block, canary_of(block()), size, false), is_so);
    }
    return is_so;
  }

  alignas(64) char memory_[64 + kMost + 64];
};

// Sizes that a class is for, all of the smaller ones.
std::vector<size_t> sizes_of(unsigned c) {
  const size_t most = class_size(c) - kSealBytes;
  const size_t least = c == 0 ? 0 : class_size(c - 1) - kSealBytes + 1;
  std::vector<size_t> sizes;
  for (size_t n = least; n <= most; n += most - least < 64 ? 1 : (most - least) / 16) {
    sizes.push_back(n);
  }
  sizes.push_back(most);
  return sizes;
}

TEST_F(Blocks, EachByteOfSlackIsGuarded) {
  for (size_t slack : {0, 1, 7, 8, 9, 15, 16, 17, 100, 4095}) {
    fill();
    char* slack_at = block() + 4096 - slack;
    fill_slack(block(), slack_at, slack);
    EXPECT_TRUE(neighbours_are_whole(4096));
    EXPECT_EQ(slack_at[-1], 0x5a);
    EXPECT_EQ(find_in_slack(block(), slack_at, slack), nullptr) << slack;
    for (size_t i = 0; i < slack; ++i) {
      const char was = slack_at[i];
      for (int c : {0, was ^ 0x40}) {  // a zero is the most common overflow by one
        slack_at[i] = static_cast<char>(c);
        EXPECT_EQ(find_in_slack(block(), slack_at, slack), slack_at + i) << slack;
      }
      slack_at[i] = was;
    }
  }
}

TEST_F(Blocks, EachByteBehindTheEndIsGuarded) {
  for (unsigned c = 0; c < kClasses; ++c) {
    const size_t size = class_size(c);
    for (size_t n : sizes_of(c)) {
      fill();
      close(block(), size, false);
      EXPECT_EQ(seal(size).state, State::kFree);
      make_live(size, n);
      EXPECT_EQ(seal(size).state, State::kLive);
      EXPECT_EQ(seal(size).bytes, n);
      ASSERT_EQ(find_overflow(block(), size, static_cast<uint32_t>(n)), nullptr) << n;
      memset(block(), 0xff, n);
      ASSERT_EQ(find_overflow(block(), size, static_cast<uint32_t>(n)), nullptr) << n;
      ASSERT_EQ(seal(size).bytes, n);
      ASSERT_TRUE(neighbours_are_whole(size)) << n;
      for (unsigned char wrong : {0, 1, 0xff}) {
        const char kept = block()[n];
        if (static_cast<unsigned char>(kept) == wrong) continue;
        block()[n] = static_cast<char>(wrong);
        const Seal now = seal(size);
        EXPECT_TRUE(now.state == State::kDamaged ||
                    find_overflow(block(), size, static_cast<uint32_t>(n)) == block() + n)
            << size << ' ' << n << ' ' << int{wrong};
        block()[n] = kept;
      }
    }
  }
}

TEST_F(Blocks, WhatIsFoundByACloserLookIsNotSound) {
  for (unsigned c = 0; c < kClasses; ++c) {
    const size_t size = class_size(c);
    for (size_t n : sizes_of(c)) {
      fill();
      close(block(), size, false);
      EXPECT_FALSE(is_live_and_whole(size)) << "it is free";
      make_live(size, n);
      memset(block(), 0xff, n);
      ASSERT_TRUE(is_live_and_whole(size)) << n;
      const size_t slack = size - sizeof(uint64_t) - n;
      const size_t canary = slack < 8 ? slack : min_of(slack / 8, kCanaryMost) * 8;
      for (size_t i = n; i < n + canary; ++i) {
        block()[i] ^= 1;
        ASSERT_FALSE(is_live_and_whole(size)) << n << ' ' << i;
        block()[i] ^= 1;
      }
      for (size_t i : {size - sizeof(uint64_t), size - 1}) {
        block()[i] ^= 1;
        ASSERT_FALSE(is_live_and_whole(size)) << n << ' ' << i;
        block()[i] ^= 1;
      }
      ASSERT_TRUE(is_live_and_whole(size));
    }
  }
}

TEST_F(Blocks, TheSealBeforeABlockIsLookedAt) {
  for (size_t n : {size_t{0}, size_t{40}}) {
    const size_t size = 48;
    const unsigned c = class_of(size);
    char* before = block();
    char* behind = block() + size;
    for (char* each : {before, behind}) {
      close(each, size, false);
      open(reinterpret_cast<Block*>(each), canary_of(each), size, 40);
    }
    ASSERT_TRUE(is_sound(behind, canary_of(behind), size, false));
    set_bytes(before, c, n);
    EXPECT_TRUE(is_sound(behind, canary_of(behind), size, false)) << "whatever bytes it has";
    behind[-1] ^= 1;
    EXPECT_FALSE(is_sound(behind, canary_of(behind), size, false));
    EXPECT_TRUE(is_sound(behind, canary_of(behind), size, true)) << "it is the first";
    behind[-1] ^= 1;
    close(before, size, false);
    EXPECT_TRUE(is_sound(behind, canary_of(behind), size, false)) << "or is free";
  }
}

TEST_F(Blocks, ANullByteTooManyIsSeen) {
  for (int i = 0; i < 1000; ++i) {
    start();
    EXPECT_NE(canary_of(block()) & 0xff, 0U);
  }
}

TEST_F(Blocks, WhatIsWiderThanItsSizeNeedsMayBeUsedWhole) {
  set_bytes(block(), class_of(4096), 1);
  EXPECT_EQ(seal(4096).bytes, 4096 - kSealBytes);
}

TEST_F(Blocks, AWriteToAFreeBlockIsFoundWhereItWas) {
  for (unsigned c = 1; c < kClasses; ++c) {
    const size_t size = class_size(c);
    fill();
    close(block(), size, false);
    auto* free_block = reinterpret_cast<Block*>(block());
    EXPECT_EQ(find_write(free_block, size), nullptr);
    EXPECT_TRUE(is_free_and_whole(size));
    const size_t last = 7 + wiped_bytes(size);
    std::vector<size_t> places = {8, last / 2, last};
    if (size <= kWipedInline) {
      for (size_t at = 8; at <= last; ++at) places.push_back(at);
    }
    for (size_t at : places) {
      block()[at] = 1;
      EXPECT_EQ(find_write(free_block, size), block() + at) << size;
      EXPECT_FALSE(is_free_and_whole(size)) << size << ' ' << at;
      block()[at] = 0;
    }
    EXPECT_TRUE(neighbours_are_whole(size));
  }
}

TEST_F(Blocks, AsMuchIsLookedAtAsIsAsked) {
  fill();
  const size_t size = 2048;
  close(block(), size, false);
  auto* free_block = reinterpret_cast<Block*>(block());
  const uint64_t canary = canary_of(block());
  block()[8 + kSeenLeast] = 1;
  EXPECT_TRUE(is_untouched(free_block, canary, size, false));
  EXPECT_FALSE(is_untouched(free_block, canary, size, true));
  block()[7 + kSeenLeast] = 1;
  EXPECT_FALSE(is_untouched(free_block, canary, size, false));
}

TEST_F(Blocks, AllIsWipedWhereThatIsAsked) {
  fill();
  close(block(), kMediumMax, true);
  for (size_t i = 8; i < kMediumMax - 8; ++i) ASSERT_EQ(block()[i], 0) << i;
}

TEST_F(Blocks, ALinkThatWasWrittenToIsNone) {
  int passed = 0;
  for (int i = 0; i < 2000; ++i) {
    start();
    auto* place = reinterpret_cast<Block*>(block());
    place->link(reinterpret_cast<Block*>(0x7f0012345670));
    ASSERT_EQ(place->next(), reinterpret_cast<Block*>(0x7f0012345670));
    const uint64_t stored = load(block());
    EXPECT_NE(stored, 0x7f0012345670U);
    for (int byte = 0; byte < 8; ++byte) {
      block()[byte] ^= static_cast<char>(1 + i % 255);
      passed += is_link(decode(place, load(block())));
      store(block(), stored);
    }
  }
  EXPECT_LE(passed, 4) << "of 16,000; one in a million passes";
}

TEST_F(Blocks, NothingIsTheSameInAnotherProcess) {
  std::set<uint64_t> canaries, links;
  for (int i = 0; i < 100; ++i) {
    start();
    canaries.insert(canary_of(block()));
    links.insert(encode(block(), nullptr));
  }
  EXPECT_EQ(canaries.size(), 100U);
  EXPECT_EQ(links.size(), 100U);
}

TEST(Order, HasEachNumberOnce) {
  start();
  std::set<std::vector<uint32_t>> orders;
  for (uint32_t count : {1U, 2U, 7U, 256U}) {
    for (int round = 0; round < 10; ++round) {
      const Order<256> order(count);
      std::vector<uint32_t> numbers;
      for (uint32_t i = 0; i < count; ++i) numbers.push_back(order.of(i));
      if (count > 2) orders.insert(numbers);
      EXPECT_EQ(std::set<uint32_t>(numbers.begin(), numbers.end()).size(), count);
      for (uint32_t number : numbers) EXPECT_LT(number, count);
    }
  }
  EXPECT_GT(orders.size(), 15U) << "of 20";
}

}  // namespace
}  // namespace tally::core::hardened
