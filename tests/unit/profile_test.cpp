#include "sample/profile.h"

#include <cmath>
#include <memory>
#include <string>

#include "fake_os.h"
#include "sample/poisson.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

constexpr uint64_t kSecond = 1000000000;

// A profile of its own, of blocks that there need not be.
class ProfileTest : public testing::Test {
 protected:
  ProfileTest() : tag_(find_tag(make_tag("/unit/profile"))) { profile_.start(kRate); }
  ~ProfileTest() override { fake_os::skip_time(0); }

  static constexpr uint64_t kRate = 64 * 1024;
  static const void* at(uint64_t i) { return reinterpret_cast<const void*>(0x1000 + i * 16); }

  // From main, by `by`, at `line` of it.
  void add(uint64_t block, uint64_t bytes, uintptr_t by = 1, uintptr_t line = 1) {
    add_drawn(block, bytes, bytes, by, line);
  }
  void add_drawn(uint64_t block, uint64_t bytes, uint64_t drawn, uintptr_t by, uintptr_t line) {
    StackFrame frames[3] = {{line, 0}, {by << 8, 0}, {1 << 20, 1}};
    profile_.add({at(block), bytes, bytes - 1}, drawn, tag_, {frames, 3});
  }
  double live_bytes() const {
    double sum = 0;
    for (uint32_t i = 0; i < profile_.site_end(); ++i) sum += profile_.sites()[i].live.bytes;
    return sum;
  }
  const Site& only_site() const {
    EXPECT_EQ(profile_.site_end(), 1U);
    return profile_.sites()[0];
  }
  static double weight(uint64_t bytes, uint64_t rate = kRate) { return 1 / chance(bytes, rate); }

  Profile profile_;
  Tag* tag_;
  uint64_t state_ = 7;
};

TEST_F(ProfileTest, ASiteForEachStackAndTag) {
  add(1, 1000, 1, 1);
  add(2, 1000, 1, 1);
  add(3, 3000, 1, 2);
  tag_ = find_tag(make_tag("/unit/profile/other"));
  add(4, 1000, 1, 1);
  ASSERT_EQ(profile_.site_end(), 3U);
  const Site* sites = profile_.sites();
  EXPECT_EQ(sites[0].call, sites[2].call);
  EXPECT_NE(sites[0].tag, sites[2].tag);
  EXPECT_DOUBLE_EQ(sites[0].live.objects, 2 * weight(1000));
  EXPECT_DOUBLE_EQ(sites[0].live.bytes, 2 * weight(1000) * 1000);
  EXPECT_DOUBLE_EQ(sites[1].allocated.bytes, weight(3000) * 3000);
  // Root, main, its callee, and two lines of that.
  EXPECT_EQ(profile_.call_count(), 5U);
  const Call* calls = profile_.calls();
  const Call& line = calls[sites[1].call];
  EXPECT_EQ(line.address, 2U);
  EXPECT_EQ(calls[line.caller].address, 1U << 8);
  const Call& outermost = calls[calls[line.caller].caller];
  EXPECT_EQ(outermost.address, 1U << 20);
  EXPECT_EQ(outermost.module, 1U);
  EXPECT_EQ(outermost.caller, 0U);
}

TEST_F(ProfileTest, WhatIsFreedWasAllocatedAndLivedSoLong) {
  add(1, 5000);
  fake_os::skip_time(kSecond / 2);
  add(2, 5000);
  fake_os::skip_time(2 * kSecond);
  profile_.remove(at(1));
  profile_.remove(at(2));
  profile_.remove(at(3));  // never sampled
  const Site& site = only_site();
  EXPECT_EQ(profile_.sample_count(), 0U);
  EXPECT_EQ(site.live.bytes, 0);
  EXPECT_DOUBLE_EQ(site.allocated.bytes, 2 * weight(5000) * 5000);
  EXPECT_DOUBLE_EQ(site.lifetimes[4], 2 * weight(5000));  // 1 to 10 s
}

TEST_F(ProfileTest, ABlockAtTheSamePlaceIsAnotherOne) {
  add(1, 5000);
  add(1, 7000);
  EXPECT_EQ(profile_.sample_count(), 1U);
  EXPECT_DOUBLE_EQ(live_bytes(), weight(7000) * 7000);
}

TEST_F(ProfileTest, ThePeakIsWhatWasLiveThen) {
  uint64_t held = meta::process.held();
  add(1, 1000, 1, 1);
  ASSERT_TRUE(tag_->charge(100 * MiB));
  add(2, 2000, 1, 2);
  EXPECT_GE(profile_.totals().peak_footprint, held + 100 * MiB);
  tag_->uncharge(100 * MiB);
  profile_.remove(at(2));
  add(3, 9000, 1, 3);
  profile_.settle();
  const Site* sites = profile_.sites();
  EXPECT_DOUBLE_EQ(sites[0].peak.bytes, weight(1000) * 1000);
  EXPECT_DOUBLE_EQ(sites[1].peak.bytes, weight(2000) * 2000);
  EXPECT_EQ(sites[1].live.bytes, 0);
  EXPECT_EQ(sites[2].peak.bytes, 0);
  // And the next one counts anew.
  ASSERT_TRUE(tag_->charge(200 * MiB));
  add(4, 500, 1, 4);
  profile_.settle();
  EXPECT_EQ(sites[1].peak.bytes, 0);
  EXPECT_DOUBLE_EQ(sites[2].peak.bytes, weight(9000) * 9000);
  tag_->uncharge(200 * MiB);
}

// The mark lies between a half and three quarters of the time back.
TEST_F(ProfileTest, TheMarkIsWhatWasLiveThen) {
  uint64_t begun = profile_.totals().begun;
  double live_at[200] = {};
  for (uint64_t second = 0; second < 200; ++second) {
    fake_os::skip_time(second * kSecond + kSecond / 2);
    live_at[second] = live_bytes();
    add(second, 4000);
    if (second >= 20) profile_.remove(at(second - 20));
    profile_.settle();
    uint64_t back = (second * kSecond + kSecond / 2) - (profile_.totals().marked_at - begun);
    if (second < 2) continue;
    EXPECT_GE(back, second * kSecond / 2);
    EXPECT_LE(back, (second + 1) * kSecond * 3 / 4 + kSecond / 10);
    // Marks are at whole seconds, and blocks came half a second after.
    uint64_t marked = (profile_.totals().marked_at - begun + kSecond / 100) / kSecond;
    EXPECT_NEAR(only_site().marks[1].bytes, live_at[marked], 1) << second;
  }
}

TEST_F(ProfileTest, AfterALongSleepTheMarkIsFromWithinIt) {
  add(1, 4000);
  fake_os::skip_time(1000 * kSecond);
  add(2, 4000);
  profile_.settle();
  EXPECT_DOUBLE_EQ(only_site().marks[1].bytes, weight(4000) * 4000);
  EXPECT_DOUBLE_EQ(only_site().live.bytes, 2 * weight(4000) * 4000);
}

TEST_F(ProfileTest, AResizedBlockStaysOneSample) {
  add(1, 100000);
  EXPECT_TRUE(profile_.resize(at(1), {at(7), 300000, 299999}));
  EXPECT_FALSE(profile_.resize(at(1), {at(8), 300000, 299999}));
  ASSERT_EQ(profile_.sample_count(), 1U);
  EXPECT_EQ(profile_.samples()[0].requested, 299999U);
  EXPECT_NEAR(live_bytes(), weight(300000) * 300000, .01);
  EXPECT_NEAR(only_site().allocated.bytes, weight(100000) * 100000 + 200000, .01);
  EXPECT_DOUBLE_EQ(only_site().allocated.objects, weight(100000));
  profile_.remove(at(7));
  EXPECT_EQ(live_bytes(), 0);
}

TEST_F(ProfileTest, ShrunkOnesStayWithTheirNewChance) {
  constexpr int kBlocks = 4000;
  for (int i = 0; i < kBlocks; ++i) {
    add(static_cast<uint64_t>(i), 1000000);
    profile_.resize(at(static_cast<uint64_t>(i)), {at(static_cast<uint64_t>(i)), 8000, 8000});
  }
  double p = chance(8000, kRate) / chance(1000000, kRate);
  EXPECT_NEAR(profile_.sample_count(), kBlocks * p, 5 * std::sqrt(kBlocks * p));
  EXPECT_NEAR(live_bytes(), kBlocks * 8000., kBlocks * 8000 * 5 / std::sqrt(kBlocks * p));
}

// Of a block that grew only what it grew by is drawn, and counted as allocated.
TEST_F(ProfileTest, AGrownBlockIsAllOfItLive) {
  add_drawn(1, 500000, 20000, 1, 1);
  EXPECT_DOUBLE_EQ(only_site().live.bytes, weight(500000) * 500000);
  EXPECT_DOUBLE_EQ(only_site().allocated.bytes, weight(20000) * 20000);
  EXPECT_EQ(only_site().allocated.objects, 0);
}

// As many as there are, and more: fewer of them then stand for more, without bias.
TEST_F(ProfileTest, ManySamplesAreThinnedOut) {
  constexpr uint64_t kBlocks = 3 * Profile::kSamplesMost;
  double exact = 0;
  for (uint64_t i = 0; i < kBlocks; ++i) {
    uint64_t bytes = i % 3 == 0 ? 4000 : 40000;
    if (next_uniform(&state_) >= chance(bytes, profile_.rate())) continue;
    add(i, bytes, 1, i % 5);
  }
  EXPECT_EQ(profile_.totals().lost, 0U);
  for (uint64_t i = 0; i < kBlocks; ++i) exact += i % 3 == 0 ? 4000 : 40000;
  EXPECT_LE(profile_.sample_count(), Profile::kSamplesMost);
  EXPECT_NEAR(live_bytes() / exact, 1, .05);
  double of_samples = 0;
  for (uint32_t i = 0; i < profile_.sample_count(); ++i) {
    uint64_t bytes = profile_.samples()[i].bytes;
    of_samples += weight(bytes, profile_.rate()) * static_cast<double>(bytes);
  }
  EXPECT_NEAR(of_samples / live_bytes(), 1, 1e-6);
  for (uint64_t i = 0; i < kBlocks; ++i) profile_.remove(at(i));
  EXPECT_EQ(profile_.sample_count(), 0U);
  EXPECT_EQ(live_bytes(), 0);
}

TEST_F(ProfileTest, AlwaysLiveOnesAreThinnedOutAgainAndAgain) {
  for (uint64_t i = 0; i < 5 * Profile::kSamplesMost; ++i) add(i, 1 << 20);
  EXPECT_GT(profile_.rate(), kRate);
  EXPECT_GT(profile_.sample_count(), Profile::kSamplesMost / 4);
}

// Stacks without end: what is not live any more is joined, and nothing is missing from the sums.
TEST_F(ProfileTest, OldSitesAreJoined) {
  constexpr uint64_t kStacks = 4 * Profile::kSitesMost;
  for (uint64_t i = 0; i < kStacks; ++i) {
    add(i, 4000, 1, i + 1);
    if (i % 16 != 0) profile_.remove(at(i));
  }
  EXPECT_EQ(profile_.totals().lost, 0U);
  EXPECT_LE(profile_.site_end(), Profile::kSitesMost);
  double allocated = 0, live = 0, freed = 0;
  for (uint32_t i = 0; i < profile_.site_end(); ++i) {
    const Site& site = profile_.sites()[i];
    if (!site.is_used) continue;
    allocated += site.allocated.objects;
    live += site.live.objects;
    for (double of : site.lifetimes) freed += of;
  }
  EXPECT_NEAR(allocated, kStacks * weight(4000), 1);
  EXPECT_NEAR(live, kStacks / 16 * weight(4000), 1);
  EXPECT_NEAR(freed, allocated - live, 1);
}

TEST_F(ProfileTest, LiveSitesWithoutEndAreOneFromSomewhereOn) {
  for (uint64_t i = 0; i < Profile::kSitesMost + 100; ++i) add(i, 4000, 1, i + 1);
  EXPECT_EQ(profile_.totals().lost, 0U);
  EXPECT_NEAR(live_bytes(), (Profile::kSitesMost + 100) * weight(4000) * 4000, 1);
  EXPECT_EQ(profile_.sites()[profile_.site_end() - 1].call, 0U);
}

// Tags without end, each with stacks of its own: what comes after them is sampled as ever.
TEST_F(ProfileTest, TagsThatComeAndGoLeaveRoomForOthers) {
  constexpr uint64_t kTags = 30000;  // more than there are names
  uint64_t block = 0;
  for (uint64_t i = 0; i < kTags; ++i) {
    Tag passing = {};
    std::string name = "/unit/passing/" + std::to_string(i);
    passing.name = name.c_str();
    StackFrame frame = {i + 1, 0};
    profile_.add({at(1), 4000, 4000}, 4000, &passing, {&frame, 1});
    profile_.remove(at(1));
  }
  EXPECT_EQ(profile_.totals().lost, 0U);
  for (uint64_t i = 0; i < 100; ++i) add(++block + 10, 4000, 1, 7);
  EXPECT_EQ(profile_.totals().lost, 0U);
  bool is_there = false;
  double allocated = 0;
  for (uint32_t i = 0; i < profile_.site_end(); ++i) {
    const Site& site = profile_.sites()[i];
    if (!site.is_used) continue;
    allocated += site.allocated.objects;
    is_there |= site.call != 0 && site.samples == 100;
  }
  EXPECT_TRUE(is_there);
  EXPECT_NEAR(allocated, (kTags + 100) * weight(4000), 10);
}

// Children of one parent would otherwise all be wrong in the same way.
TEST_F(ProfileTest, ForksDrawForThemselves) {
  uint64_t before = profile_.seed();
  fake_os::skip_time(kSecond);
  profile_.after_fork();
  uint64_t first = profile_.seed();
  EXPECT_NE(first, before);
  fake_os::skip_time(2 * kSecond);
  profile_.after_fork();
  EXPECT_NE(profile_.seed(), first);
}

TEST_F(ProfileTest, WithoutRoomStacksAreCut) {
  StackFrame frames[100];
  for (uint64_t i = 0; profile_.totals().cut == 0; ++i) {
    ASSERT_LT(i, Profile::kCallsMost);
    for (uint64_t f = 0; f < 100; ++f) frames[f] = {f < 60 ? i * 100 + f + 1 : f, 0};
    profile_.add({at(1), 4000, 4000}, 4000, tag_, {frames, 100});
  }
  EXPECT_EQ(profile_.call_count(), Profile::kCallsMost);
  EXPECT_EQ(profile_.totals().lost, 0U);
}

TEST_F(ProfileTest, WithoutMemorySamplesAreLost) {
  {
    fake_os::Failing failing(fake_os::kMap);
    add(1, 4000);
  }
  EXPECT_EQ(profile_.totals().lost, 1U);
  profile_.remove(at(1));
  profile_.settle();
  add(2, 4000);
  EXPECT_EQ(profile_.sample_count(), 1U);
}

}  // namespace
}  // namespace tally::unit
