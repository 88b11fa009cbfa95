#include "memory/chunk.h"

#include <bit>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "backend/backend.h"
#include "base/math.h"
#include "fake_os.h"
#include "memory/meta.h"
#include "os/os.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

size_t bytes_of(const Slab* run) {
  auto start = address(run->start);
  return (start & ~(kSlotBytes - 1)) + run->slots * kSlotBytes - start;
}

// What every chunk says of itself, checked against nothing but its bits.
void expect_valid_chunks() {
  LockGuard guard(central);
  for (const Chunk* chunk = all_chunks.load(); chunk != nullptr; chunk = chunk->next_chunk) {
    EXPECT_EQ(chunk->dirty_slots & ~chunk->free_slots, 0U);
    unsigned longest = 0, length = 0;
    for (unsigned i = 1; i < kSlotsPerChunk; ++i) {
      length = (chunk->free_slots >> i & 1) != 0 ? length + 1 : 0;
      longest = length > longest ? length : longest;
    }
    EXPECT_EQ(chunk->bin, chunk->free_slots == 0 ? Chunk::kNoBin : longest);
  }
}

bool resolves(const Slab* run, const Slab* to) {
  for (size_t at = 0; at < bytes_of(run); at += kSlotBytes / 2) {
    if (address_map.find(run->start + at) != to) return false;
  }
  return address_map.find(run->start + bytes_of(run) - 1) == to;
}

TEST(Chunk, ARunIsWhatWasAskedFor) {
  for (size_t alignment : {size_t{1}, size_t{4096}, kSlotBytes, 4 * kSlotBytes, kRunMax}) {
    for (unsigned slots : {1U, 2U, 5U, 16U}) {
      bool zeroed = false;
      Slab* run = take_run(slots, alignment, false, &zeroed);
      ASSERT_NE(run, nullptr);
      EXPECT_EQ(run->slots, slots);
      EXPECT_EQ(address(run->start) & (max_of(alignment, kSlotBytes) - 1), 0U);
      EXPECT_NE(Chunk::of(run)->slot_of(run), 0U) << "the short slot was not allowed";
      EXPECT_TRUE(resolves(run, run));
      EXPECT_EQ(zeroed, is_zero(run->start, bytes_of(run)));
      memset(run->start, 1, bytes_of(run));
      give_run(run);
    }
  }
  expect_valid_chunks();
}

TEST(Chunk, SlotZeroIsShortAndGivenOnlyWhereAllowed) {
  std::vector<Slab*> runs;
  bool zeroed, seen = false;
  for (unsigned i = 0; i < 2 * kSlotsPerChunk; ++i) {
    Slab* run = take_run(1, 1, true, &zeroed);
    ASSERT_NE(run, nullptr);
    Chunk* chunk = Chunk::of(run);
    if (chunk->slot_of(run) == 0) {
      seen = true;
      EXPECT_EQ(run->start, reinterpret_cast<char*>(chunk) + kChunkHeaderBytes);
      EXPECT_EQ(bytes_of(run), kSlotBytes - kChunkHeaderBytes);
      EXPECT_EQ(address_map.find(chunk), run) << "the header lies in the slot";
    }
    memset(run->start, 1, bytes_of(run));
    runs.push_back(run);
  }
  EXPECT_TRUE(seen);
  for (Slab* run : runs) give_run(run);
  expect_valid_chunks();
}

TEST(Chunk, FreeSlotsResolveToTheirOwnDescriptor) {
  bool zeroed;
  Slab* run = take_run(3, 1, false, &zeroed);
  char* start = run->start;
  give_run(run);
  for (int i = 0; i < 3; ++i) {
    Slab* slab = address_map.find(start + i * kSlotBytes);
    EXPECT_EQ(slab, run + i);
    EXPECT_EQ(slab->what().kind, SlabKind::kFree);
  }
}

TEST(Chunk, GrowsIntoFreeSlotsOnly) {
  bool zeroed;
  Slab* run = take_run(4, kRunMax, false, &zeroed);
  memset(run->start, 7, bytes_of(run));
  ASSERT_TRUE(grow_run(run, 10, &zeroed)) << "the slots behind were free";
  EXPECT_EQ(run->slots, 10U);
  EXPECT_TRUE(resolves(run, run));
  EXPECT_EQ(zeroed, is_zero(run->start + 4 * kSlotBytes, 6 * kSlotBytes));
  shrink_run(run, 5);
  EXPECT_EQ(run->slots, 5U);
  EXPECT_TRUE(resolves(run, run));
  EXPECT_EQ(address_map.find(run->start + 5 * kSlotBytes), run + 5);
  // Somebody takes what is behind.
  std::vector<Slab*> others;
  while (address_map.find(run->start + 5 * kSlotBytes)->slots != 1 || others.empty() ||
         (Chunk::of(run)->free_slots >> (Chunk::of(run)->slot_of(run) + 5) & 1) != 0) {
    others.push_back(take_run(1, 1, false, &zeroed));
    ASSERT_LT(others.size(), 10000U);
  }
  EXPECT_FALSE(grow_run(run, 6, &zeroed));
  EXPECT_EQ(run->slots, 5U);
  EXPECT_FALSE(grow_run(run, kSlotsPerChunk, &zeroed)) << "beyond the chunk";
  EXPECT_EQ(static_cast<unsigned char>(run->start[4 * kSlotBytes - 1]), 7U);
  for (Slab* other : others) give_run(other);
  give_run(run);
  expect_valid_chunks();
}

TEST(Chunk, PurgedMemoryReadsAsZeroAndIsSaidTo) {
  bool zeroed;
  Slab* run = take_run(16, 1, false, &zeroed);
  memset(run->start, 5, bytes_of(run));
  give_run(run);
  EXPECT_GE(purge_runs(os::now_ms(), true), 16 * kSlotBytes);
  EXPECT_EQ(purge_runs(os::now_ms(), true), 0U) << "nothing is left to purge";
  for (const Chunk* chunk = all_chunks.load(); chunk != nullptr; chunk = chunk->next_chunk) {
    EXPECT_EQ(chunk->dirty_slots, 0U);
  }
  run = take_run(16, 1, false, &zeroed);
  EXPECT_TRUE(zeroed);
  EXPECT_TRUE(is_zero(run->start, bytes_of(run)));
  give_run(run);
}

// Fork, beside or within a purge of two chunks: in the child all slots are free again, and those
// that were not purged for sure are still for its purge.
TEST(Chunk, AForkAtAPurgeLosesNoSlots) {
  bool zeroed;
  purge_runs(os::now_ms(), true);
  for (bool within : {false, true}) {
    for (uint64_t nth = 1; nth <= 2; ++nth) {
      std::vector<Slab*> runs;
      for (unsigned i = 0; i < 2; ++i) {
        runs.push_back(take_run(kSlotsPerChunk - 1, 1, false, &zeroed));
        fill(runs.back()->start, bytes_of(runs.back()), 1);
      }
      const size_t count = chunk_count();
      const size_t bytes = 2 * bytes_of(runs[0]);
      for (Slab* run : runs) give_run(run);
      auto look = [&] {
        for (const Chunk* chunk = all_chunks.load(); chunk != nullptr; chunk = chunk->next_chunk) {
          if (chunk->out_slots != 0 || chunk->free_slots != ~uint64_t{0}) return 1;
        }
        expect_valid_chunks();
        const size_t dirty = within ? 0 : bytes - (nth - 1) * bytes / 2;
        if (dirty_run_bytes() != dirty || purge_runs(os::now_ms(), true) != dirty) return 2;
        for (unsigned i = 0; i < 2; ++i) {
          Slab* run = take_run(kSlotsPerChunk - 1, 1, false, &zeroed);
          if (!zeroed || !is_zero(run->start, bytes_of(run))) return 3;
        }
        if (chunk_count() != count) return 4;
        return testing::Test::HasFailure() ? 5 : 0;
      };
      auto purge = [] { purge_runs(os::now_ms(), true); };
      EXPECT_EQ(fake_os::look_beside_purge(nth, within, purge, look), 0) << nth << within;
      EXPECT_EQ(dirty_run_bytes(), 0U);
      for (const Chunk* chunk = all_chunks.load(); chunk != nullptr; chunk = chunk->next_chunk) {
        EXPECT_EQ(chunk->out_slots, 0U);
      }
      expect_valid_chunks();
    }
  }
}

// What the kernel says of the mapping that p lies in: "hg" huge pages wanted, "nh" not wanted.
std::string flags_of(const void* p) {
  std::ifstream maps("/proc/self/smaps");
  bool mine = false;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t from, to;
    if (sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) {
      mine = from <= address(p) && address(p) < to;
    } else if (mine && line.starts_with("VmFlags:")) {
      return line + " ";
    }
  }
  return "";
}

TEST(Chunk, HugePagesAreAskedForUntilAPartGoesBack) {
  if (!std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled"))
    GTEST_SKIP() << "no such pages";
  KeepOptions keep;
  options.thp = HugePages::kAlways;
  bool zeroed;
  // The longest run, so that the chunk is new, or has been empty; those that are not are held.
  std::vector<Slab*> runs;
  do {
    runs.push_back(take_run(kSlotsPerChunk - 1, 1, false, &zeroed));
    ASSERT_NE(runs.back(), nullptr);
  } while (flags_of(runs.back()->start).find(" hg ") == std::string::npos && runs.size() < 100);
  Slab* run = runs.back();
  std::string flags = flags_of(run->start);
  EXPECT_NE(flags.find(" hg "), std::string::npos) << flags;
  char* start = run->start;
  memset(start, 1, kSlotBytes);
  give_run(run);
  purge_runs(os::now_ms(), true);
  flags = flags_of(start);
  EXPECT_EQ(flags.find(" hg "), std::string::npos)
      << "the kernel would fill the pages up: " << flags;
  runs.pop_back();
  for (Slab* other : runs) give_run(other);
  purge_runs(os::now_ms(), true);
}

TEST(Chunk, HugePagesOnlyOfLargePrograms) {
  KeepOptions keep;
  options.thp = HugePages::kAuto;
  EXPECT_FALSE(wants_huge_pages());
  uint64_t held;
  ASSERT_TRUE(meta::process.take(128 * MiB, false, &held));
  EXPECT_TRUE(wants_huge_pages());
  options.thp = HugePages::kNever;
  EXPECT_FALSE(wants_huge_pages());
  meta::process.give(128 * MiB);
}

TEST(Chunk, YoungMemoryIsKept) {
  KeepOptions keep;
  options.purge_ms = 500;
  fake_os::set_clock(10000);
  bool zeroed;
  Slab* run = take_run(2, 1, false, &zeroed);
  memset(run->start, 5, bytes_of(run));
  give_run(run);
  EXPECT_EQ(purge_runs(10499, false), 0U);
  EXPECT_GE(purge_runs(10500, false), 2 * kSlotBytes);
  EXPECT_EQ(purge_runs(99999, false), 0U);
}

// A purge reads the clock before it takes the lock; a slot may have been given back after that.
TEST(Chunk, MemoryYoungerThanTheClockReadingIsKept) {
  KeepOptions keep;
  options.purge_ms = 500;
  fake_os::set_clock(10000);
  bool zeroed;
  Slab* run = take_run(2, 1, false, &zeroed);
  give_run(run);
  EXPECT_EQ(purge_runs(9996, false), 0U);
}

TEST(Chunk, WhatTheSystemRefusesToPurgeStaysDirty) {
  KeepOptions keep;
  options.purge_ms = 500;
  fake_os::set_clock(10000);
  bool zeroed;
  Slab* run = take_run(2, 1, false, &zeroed);
  memset(run->start, 5, bytes_of(run));
  give_run(run);
  {
    fake_os::Failing no_purge(fake_os::kPurge);
    EXPECT_EQ(purge_runs(10500, false), 0U);
    EXPECT_EQ(fake_os::calls(), 3U) << "both at once, then each";
    EXPECT_EQ(purge_runs(10600, false), 0U);
    EXPECT_EQ(fake_os::calls(), 3U) << "not asked again before the delay";
  }
  expect_valid_chunks();
  run = take_run(2, 1, false, &zeroed);
  EXPECT_FALSE(zeroed) << "resident slots come first, and keep their content";
  give_run(run);
  EXPECT_GE(purge_runs(20000, false), 2 * kSlotBytes);
}

TEST(Chunk, WithoutMemoryThereIsNoRun) {
  // All the room there is.
  bool zeroed;
  std::vector<Slab*> runs = {take_run(1, 1, true, &zeroed)};
  fake_os::Failing no_maps(fake_os::kMap);
  while (Slab* run = take_run(1, 1, true, &zeroed)) runs.push_back(run);
  EXPECT_EQ(take_run(16, 1, false, &zeroed), nullptr);
  EXPECT_FALSE(grow_run(runs[0], 2, &zeroed));
  fake_os::fail_none();
  Slab* run = take_run(16, 1, false, &zeroed);
  ASSERT_NE(run, nullptr);
  give_run(run);
  for (Slab* one : runs) give_run(one);
  expect_valid_chunks();
}

TEST(Chunk, ForWantOfAddressesEmptyOnesAreGivenUpButForTheirDescriptors) {
  bool zeroed;
  Slab* run = take_run(16, kRunMax, false, &zeroed);
  Chunk* chunk = Chunk::of(run);
  Slab* in_slot_zero = nullptr;
  std::vector<Slab*> others;
  while (in_slot_zero == nullptr) {
    Slab* one = take_run(1, 1, true, &zeroed);
    ASSERT_TRUE(Chunk::of(one) != chunk || chunk->slot_of(one) == 0)
        << "the lowest slot comes first";
    if (Chunk::of(one) == chunk) {
      in_slot_zero = one;
    } else {
      others.push_back(one);
    }
  }
  for (Slab* one : others) give_run(one);
  hollow_chunks();  // those, so that what follows is about this chunk
  fill(in_slot_zero->start, bytes_of(in_slot_zero), 4);
  memset(run->start, 1, bytes_of(run));
  char* start = run->start;
  EXPECT_FALSE(hollow_chunks()) << "runs live there";
  give_run(run);
  size_t held = backend::held_bytes();
  EXPECT_TRUE(hollow_chunks());
  EXPECT_TRUE(chunk->hollow);
  EXPECT_LE(backend::held_bytes(), held - (kChunkBytes - kSlotBytes));
  EXPECT_EQ(address_map.find(start), address_map.none());
  EXPECT_FALSE(hollow_chunks()) << "once is enough";
  EXPECT_EQ(chunk->dirty_slots, 0U) << "what is gone is not purged";
  EXPECT_TRUE(is_filled(in_slot_zero->start, bytes_of(in_slot_zero), 4));
  expect_valid_chunks();
  // Somebody else is there by now.
  {
    fake_os::Failing taken(fake_os::kMapAt);
    Slab* other = take_run(16, 1, false, &zeroed);
    ASSERT_NE(other, nullptr);
    EXPECT_NE(Chunk::of(other), chunk);
    EXPECT_TRUE(chunk->hollow);
    give_run(other);
    EXPECT_TRUE(hollow_chunks());
  }
  // Or not.
  run = take_run(16, 1, false, &zeroed);
  ASSERT_NE(run, nullptr);
  EXPECT_FALSE(Chunk::of(run)->hollow);
  EXPECT_TRUE(zeroed);
  EXPECT_TRUE(is_zero(run->start, bytes_of(run)));
  EXPECT_TRUE(resolves(run, run));
  expect_valid_chunks();
  give_run(run);
  give_run(in_slot_zero);
  expect_valid_chunks();
}

// Thousands of random steps, each compared with a list of what is taken and what was written there.
TEST(Chunk, AgreesWithAnOracle) {
  struct Held {
    Slab* run;
    unsigned seed;
  };
  Random random(42);
  std::vector<Held> held;
  // One mark a page is enough to see that nobody else wrote there.
  auto mark = [](const Slab* run, size_t from, unsigned seed) {
    for (size_t at = from; at < bytes_of(run); at += 4096) fill(run->start + at, 8, seed);
  };
  auto is_marked = [](const Slab* run, unsigned seed) {
    for (size_t at = 0; at < bytes_of(run); at += 4096) {
      if (!is_filled(run->start + at, 8, seed)) return false;
    }
    return true;
  };
  auto reads_zero = [](const Slab* run, size_t from) {
    for (size_t at = from; at < bytes_of(run); at += 4096) {
      if (!is_zero(run->start + at, 16)) return false;
    }
    return true;
  };
  for (unsigned step = 0; step < 6000; ++step) {
    uint64_t what = random.below(100);
    if (held.size() < 4 || (what < 45 && held.size() < 120)) {
      unsigned slots = 1 + static_cast<unsigned>(random.below(random.below(4) == 0 ? 16 : 3));
      size_t alignment = size_t{1} << random.below(21);
      bool short_slot = slots == 1 && random.below(2) == 0, zeroed;
      if (short_slot) alignment = 1;
      Slab* run = take_run(slots, alignment, short_slot, &zeroed);
      ASSERT_NE(run, nullptr);
      ASSERT_EQ(run->slots, slots);
      ASSERT_EQ(address(run->start) & (alignment - 1), 0U);
      ASSERT_TRUE(short_slot || (address(run->start) & (kSlotBytes - 1)) == 0);
      ASSERT_TRUE(resolves(run, run));
      if (zeroed) {
        ASSERT_TRUE(reads_zero(run, 0));
      }
      for (const Held& other : held) {
        ASSERT_TRUE(run->start >= other.run->start + bytes_of(other.run) ||
                    other.run->start >= run->start + bytes_of(run));
      }
      mark(run, 0, step);
      held.push_back({run, step});
      continue;
    }
    size_t which = random.below(held.size());
    auto [run, seed] = held[which];
    ASSERT_TRUE(is_marked(run, seed));
    ASSERT_TRUE(resolves(run, run));
    if (what < 75) {
      give_run(run);
      held[which] = held.back();
      held.pop_back();
    } else if (what < 85 && run->slots > 1) {
      shrink_run(run, 1 + static_cast<unsigned>(random.below(run->slots - 1)));
    } else if (what < 95 && (address(run->start) & (kSlotBytes - 1)) == 0) {
      bool zeroed;
      size_t before = bytes_of(run);
      if (grow_run(run, run->slots + 1 + static_cast<unsigned>(random.below(6)), &zeroed)) {
        if (zeroed) {
          ASSERT_TRUE(reads_zero(run, before));
        }
        mark(run, before, seed);
        ASSERT_TRUE(resolves(run, run));
      }
    } else if (what == 98) {
      purge_runs(os::now_ms(), true);
    } else if (what == 99) {
      hollow_chunks();
    }
    if (step % 50 == 0) expect_valid_chunks();
  }
  for (const Held& one : held) {
    ASSERT_TRUE(is_marked(one.run, one.seed));
    give_run(one.run);
  }
  expect_valid_chunks();
}

TEST(Chunk, PurgesWhileOthersTakeAndGive) {
  std::atomic<bool> stop{false};
  std::thread purger([&] {
    while (!stop.load()) purge_runs(os::now_ms(), true);
  });
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 2; ++t) {
    threads.emplace_back([t] {
      Random random(t);
      for (unsigned i = 0; i < 1500; ++i) {
        bool zeroed;
        Slab* run = take_run(1 + static_cast<unsigned>(random.below(8)), 1, false, &zeroed);
        ASSERT_NE(run, nullptr);
        if (zeroed) {
          ASSERT_TRUE(is_zero(run->start, 64));
        }
        fill(run->start, 64, i);
        fill(run->start + bytes_of(run) - 64, 64, i);
        ASSERT_TRUE(is_filled(run->start, 64, i));
        ASSERT_TRUE(is_filled(run->start + bytes_of(run) - 64, 64, i));
        give_run(run);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  stop.store(true);
  purger.join();
  expect_valid_chunks();
}

}  // namespace
}  // namespace tally::unit
