#include "memory/span.h"

#include <stdio.h>
#include <sys/mman.h>

#include "backend/backend.h"
#include "base/config.h"
#include "base/math.h"
#include "fake_os.h"
#include "os/os.h"
#include "os/resident.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

class SpanTest : public testing::Test {
 protected:
  SpanTest() {
    options.purge_ms = 1000;
    fake_os::set_clock(50000);
    purge_spans(0, true);
  }
  ~SpanTest() override { purge_spans(0, true); }
  static Slab* take(size_t bytes, size_t alignment = 1) {
    return take_span(bytes, alignment, &zeroed_);
  }

  KeepOptions keep_;
  static inline bool zeroed_ = false;
};

TEST_F(SpanTest, IsWhatWasAskedFor) {
  for (size_t alignment : {size_t{1}, kSlotBytes, kChunkBytes, 16 * MiB}) {
    size_t held = backend::held_bytes();
    Slab* span = take(3 * MiB + 1, alignment);
    ASSERT_NE(span, nullptr);
    EXPECT_TRUE(zeroed_);
    EXPECT_EQ(span->mapped, 3 * MiB + kSlotBytes);
    EXPECT_EQ(span->slots, 0U);
    EXPECT_EQ(address(span->start) & (max_of(alignment, kSlotBytes) - 1), 0U);
    EXPECT_EQ(address_map.find(span->start), span);
    EXPECT_EQ(address_map.find(span->start + kSlotBytes - 1), span);
    EXPECT_TRUE(is_zero(span->start, span->mapped));
    EXPECT_GE(backend::held_bytes(), held + span->mapped);
    give_span(span);
    purge_spans(0, true);
  }
}

TEST_F(SpanTest, AFreedOneServesTheNextOfItsSize) {
  Slab* span = take(2 * MiB);
  char* start = span->start;
  fill(start, 100, 1);
  give_span(span);
  EXPECT_EQ(address_map.find(start), span) << "so that a second free of it is recognised";
  Slab* smaller = take(2 * MiB - 100 * KiB);
  EXPECT_EQ(smaller, span);
  EXPECT_FALSE(zeroed_);
  EXPECT_EQ(smaller->mapped, 2 * MiB) << "what is left is not worth a span of its own";
  give_span(smaller);
}

TEST_F(SpanTest, OneThatIsTooShortGrows) {
  Slab* span = take(2 * MiB);
  fill(span->start, 2 * MiB, 1);
  give_span(span);
  Slab* much_longer = take(4 * MiB + kSlotBytes);
  EXPECT_NE(much_longer, span) << "less than half of it";
  EXPECT_TRUE(zeroed_);
  Slab* longer = take(4 * MiB);
  EXPECT_EQ(longer, span);
  EXPECT_EQ(longer->mapped, 4 * MiB);
  EXPECT_FALSE(zeroed_);
  EXPECT_EQ(address_map.find(longer->start), longer);
  EXPECT_TRUE(is_filled(longer->start, 2 * MiB, 1)) << "its pages, without a fault";
  EXPECT_TRUE(is_zero(longer->start + 2 * MiB, 2 * MiB));
  give_span(longer);
  Slab* aligned = take(5 * MiB, 8 * MiB);
  EXPECT_EQ(address(aligned->start) & (8 * MiB - 1), 0U);
  EXPECT_NE(aligned, longer) << "where it lands is not known before";
  {
    fake_os::Failing no_remap(fake_os::kRemap);
    Slab* other = take(5 * MiB);
    EXPECT_NE(other, longer);
    EXPECT_EQ(take(4 * MiB), longer) << "it is as it was";
    give_span(other);
  }
  for (Slab* each : {much_longer, longer, aligned}) give_span(each);
}

TEST_F(SpanTest, OneThatIsTooLongIsCutAndMendedAgain) {
  size_t held = backend::held_bytes();
  Slab* whole = take(8 * MiB);
  char* start = whole->start;
  fill(start, 8 * MiB, 1);
  give_span(whole);
  std::vector<Slab*> parts;
  for (size_t i = 0; i < 8; ++i) {
    Slab* part = parts.emplace_back(take(1 * MiB));
    EXPECT_EQ(part->start, start + i * MiB);
    EXPECT_EQ(part->mapped, 1 * MiB);
    EXPECT_EQ(address_map.find(part->start), part);
    EXPECT_FALSE(zeroed_);
    ASSERT_TRUE(is_filled(part->start, MiB, 1));
  }
  // In any order; whoever asks for less than the whole meanwhile gets a part.
  for (size_t i : {3U, 0U, 7U, 1U, 2U, 6U, 4U, 5U}) give_span(parts[i]);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(address_map.find(start + i * MiB), parts[i]) << "a second free of it is recognised";
  }
  Slab* again = take(8 * MiB);
  EXPECT_EQ(again->start, start);
  EXPECT_EQ(again->mapped, 8 * MiB);
  EXPECT_EQ(address_map.find(start), again);
  EXPECT_EQ(address_map.find(start + MiB), address_map.none());
  EXPECT_LE(backend::held_bytes(), held + 8 * MiB + MiB);
  give_span(again);
}

TEST_F(SpanTest, TheBestFitAndTheAlignmentCount) {
  constexpr size_t kAlignment = 32 * MiB;
  std::vector<Slab*> kept = {take(8 * MiB), take(8 * MiB + 64 * KiB),
                             take(8 * MiB + 128 * KiB, kAlignment), take(8 * MiB - 64 * KiB)};
  for (Slab* span : kept) give_span(span);
  // The shortest of those that serve, by the test's own look; where they lie is the system's
  // choice.
  auto best = [&](size_t alignment) {
    size_t found = kept.size();
    for (size_t i = 0; i < kept.size(); ++i) {
      if (kept[i]->mapped < 8 * MiB || (address(kept[i]->start) & (alignment - 1)) != 0) continue;
      if (found == kept.size() || kept[i]->mapped < kept[found]->mapped) found = i;
    }
    Slab* span = kept.at(found);
    kept.erase(kept.begin() + static_cast<ptrdiff_t>(found));
    return span;
  };
  for (size_t alignment : {kAlignment, kSlotBytes, kSlotBytes}) {
    Slab* expected = best(alignment);
    EXPECT_EQ(take(8 * MiB, alignment), expected);
  }
}

TEST_F(SpanTest, GoesBackToTheSystemWhenItIsOld) {
  size_t held = backend::held_bytes();
  Slab* old = take(2 * MiB);
  Slab* young = take(3 * MiB);
  char* start = old->start;
  give_span(old);
  fake_os::advance_clock(500);
  give_span(young);
  EXPECT_EQ(purge_spans(50999, false), 0U);
  EXPECT_EQ(purge_spans(51000, false), 2 * MiB);
  EXPECT_EQ(address_map.find(start), address_map.none());
  EXPECT_EQ(purge_spans(51500, false), 3 * MiB);
  EXPECT_LE(backend::held_bytes(), held + MiB) << "but for tables";
}

// As of a chunk: the clock was read before the span was given back.
TEST_F(SpanTest, OneYoungerThanTheClockReadingIsKept) {
  give_span(take(2 * MiB));
  EXPECT_EQ(purge_spans(49996, false), 0U);
  EXPECT_EQ(purge_spans(60000, false), 2 * MiB);
}

TEST_F(SpanTest, AsMuchIsKeptAsIsUsed) {
  size_t held = backend::held_bytes();
  std::vector<Slab*> spans;
  for (int i = 0; i < 100; ++i) spans.push_back(take(2 * MiB));
  for (Slab* span : spans) give_span(span);
  EXPECT_LE(backend::held_bytes(), held + 64 * MiB + MiB);
  give_span(take(100 * MiB));
  EXPECT_LE(backend::held_bytes(), held + 64 * MiB + MiB) << "nothing is used, so it goes at once";
  purge_spans(0, true);
  Slab* used = take(150 * MiB);
  Slab* freed = take(100 * MiB);
  give_span(freed);
  EXPECT_EQ(take(100 * MiB), freed);
  give_span(freed);
  give_span(used);
  EXPECT_LE(backend::held_bytes(), held + 64 * MiB + MiB);
  purge_spans(0, true);
  options.purge_ms = 0;
  give_span(take(2 * MiB));
  EXPECT_EQ(purge_spans(0, true), 0U) << "nothing is kept if nothing is to be kept";
}

TEST_F(SpanTest, ResizingKeepsTheContent) {
  Slab* span = take(2 * MiB);
  fill(span->start, 2 * MiB, 9);
  Random random(5);
  size_t content = 2 * MiB;
  for (int i = 0; i < 40; ++i) {
    char* before = span->start;
    size_t bytes = MiB + random.below(20 * MiB);
    ASSERT_TRUE(resize_span(span, bytes));
    EXPECT_EQ(span->mapped, round_up(bytes, kSlotBytes));
    EXPECT_EQ(address(span->start) % kSlotBytes, 0U);
    EXPECT_EQ(address_map.find(span->start), span);
    if (span->start != before) {
      EXPECT_NE(address_map.find(before), span);
    }
    content = min_of(content, bytes);
    ASSERT_TRUE(is_filled(span->start, content, 9));
  }
  give_span(span);
}

TEST_F(SpanTest, ResizingThatFailsChangesNothing) {
  Slab* span = take(2 * MiB);
  fill(span->start, 2 * MiB, 9);
  char* start = span->start;
  size_t held = backend::held_bytes();
  {
    fake_os::Failing refused(fake_os::kRemap);
    EXPECT_FALSE(resize_span(span, 200 * MiB));
    EXPECT_FALSE(resize_span(span, MiB));
  }
  EXPECT_EQ(span->start, start);
  EXPECT_EQ(span->mapped, 2 * MiB);
  EXPECT_TRUE(is_filled(span->start, 2 * MiB, 9));
  EXPECT_LE(backend::held_bytes(), held + MiB) << "at most a leaf of the map in reserve";
  give_span(span);
}

// As a span that was joined of two with different pasts: the kernel does not resize them as one.
TEST_F(SpanTest, ResizingAcrossMappingsLeavesNoReservationBehind) {
  auto address_space = [] {
    size_t pages = 0;
    FILE* file = fopen("/proc/self/statm", "r");
    EXPECT_EQ(fscanf(file, "%zu", &pages), 1);
    fclose(file);
    return pages * os::page_size();
  };
  Slab* span = take(4 * MiB);
  fill(span->start, 4 * MiB, 9);
  ASSERT_EQ(mprotect(span->start + 2 * MiB, MiB, PROT_READ), 0);
  size_t before = address_space();
  EXPECT_FALSE(resize_span(span, 300 * MiB));
  EXPECT_LT(address_space(), before + 100 * MiB);
  ASSERT_EQ(mprotect(span->start + 2 * MiB, MiB, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(span->mapped, 4 * MiB);
  EXPECT_TRUE(is_filled(span->start, 4 * MiB, 9));
  give_span(span);
}

TEST_F(SpanTest, WithoutMemoryThereIsNone) {
  size_t held = backend::held_bytes();
  {
    fake_os::Failing no_maps(fake_os::kMap);
    EXPECT_EQ(take(2 * MiB), nullptr);
  }
  EXPECT_EQ(take(size_t{1} << 50), nullptr);
  EXPECT_EQ(backend::held_bytes(), held);
}

TEST_F(SpanTest, WhatIsNotUnmappedIsPurged) {
  Slab* span = take(40 * MiB);
  char* start = span->start;
  fill(start, 40 * MiB, 3);
  size_t resident = os::resident().all;
  {
    fake_os::Failing stuck(fake_os::kUnmap);
    give_span(span);
    purge_spans(0, true);
  }
  EXPECT_EQ(address_map.find(start), address_map.none());
  EXPECT_LT(os::resident().all, resident - 30 * MiB);
  os::unmap(start, 40 * MiB);
}

TEST_F(SpanTest, WhatIsNotPurgedIsUnmapped) {
  Slab* span = take(40 * MiB);
  char* start = span->start;
  fill(start, 40 * MiB, 3);
  size_t resident = os::resident().all;
  {
    fake_os::Failing locked(fake_os::kPurge);
    give_span(span);
    purge_spans(0, true);
  }
  EXPECT_FALSE(os::is_readable(start));
  EXPECT_LT(os::resident().all, resident - 30 * MiB);
}

// Fork, beside or within a purge of four spans, of which some are gone already: in the child all
// are.
TEST_F(SpanTest, AForkAtAPurgeLosesNone) {
  for (bool within : {false, true}) {
    for (uint64_t nth = 1; nth <= 4; ++nth) {
      const size_t held = backend::held_bytes();
      std::vector<Slab*> spans;
      std::vector<char*> starts;
      for (size_t i = 0; i < 4; ++i) {
        spans.push_back(take((4 + i) * MiB));
        starts.push_back(spans.back()->start);
        fill(starts.back(), 4 * MiB, 1);
      }
      for (Slab* span : spans) give_span(span);
      auto look = [&] {
        if (kept_span_bytes() != 0 || backend::held_bytes() > held + MiB) return 1;
        for (char* start : starts) {
          if (os::is_readable(start)) return 2;
          if (address_map.find(start) != address_map.none()) return 3;
        }
        const Slab* next = nullptr;
        SpanFacts facts[64];
        if (list_spans(&next, facts, 64) != 0) return 4;
        Slab* again = take(4 * MiB);
        if (!zeroed_ || !is_zero(again->start, 4 * MiB)) return 5;
        give_span(again);
        return purge_spans(0, true) == 4 * MiB ? 0 : 6;
      };
      auto purge = [] { purge_spans(0, true); };
      EXPECT_EQ(fake_os::look_beside_purge(nth, within, purge, look), 0) << nth << within;
      EXPECT_EQ(look(), 0) << "the parent";
    }
  }
}

// Likewise, of a span that is too much to be kept.
TEST_F(SpanTest, AForkBesideAFreeLosesNone) {
  const size_t held = backend::held_bytes();
  Slab* span = take(80 * MiB);
  char* start = span->start;
  auto look = [&] {
    return backend::held_bytes() <= held + MiB && !os::is_readable(start) ? 0 : 1;
  };
  EXPECT_EQ(fake_os::look_beside_purge(
                1, false, [&] { give_span(span); }, look),
            0);
  EXPECT_EQ(look(), 0) << "the parent";
}

}  // namespace
}  // namespace tally::unit
