#include "backend/backend.h"

#include <errno.h>
#include <stdlib.h>

#include "base/config.h"
#include "base/math.h"
#include "fake_os.h"
#include "heap/allocate.h"
#include "heap/free.h"
#include "heap/large.h"
#include "heap/purge.h"
#include "memory/chunk.h"
#include "memory/span.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// A backend that does what it is told: it fails, lies, leaves dirt, or calls malloc within a call.
struct Fake {
  uint64_t calls = 0, fail_from = UINT64_MAX, fail_count = UINT64_MAX;
  size_t off_by = 0;
  bool refuses_back = false;
  bool keeps = false;
  bool allocates = false;
  int live = 0;
  void* held_inside = nullptr;
  void* large_inside = nullptr;

  bool fails() {
    uint64_t n = calls++;
    return n >= fail_from && n - fail_from < fail_count;
  }
  void allocate_inside() {
    if (!allocates) return;
    errno = EAGAIN;
    release_block(held_inside);
    held_inside = allocate(300);
    memset(held_inside, 1, 300);
    release_block(large_inside);
    large_inside = allocate(2 * MiB);
  }
};
Fake fake;
// Where the C library's malloc puts what it aligns, behind so much of something else.
constexpr size_t kShift = 16;

void* fake_take(size_t bytes, size_t alignment) {
  fake.allocate_inside();
  if (fake.fails()) return nullptr;
  void* p = aligned_alloc(alignment, bytes + (fake.off_by != 0 ? alignment : 0));
  memset(p, 0x5a, bytes);
  ++fake.live;
  return static_cast<char*>(p) + fake.off_by;
}

bool fake_give(void* p, size_t) {
  fake.allocate_inside();
  if (fake.refuses_back) return false;
  if (!fake.keeps) free(static_cast<char*>(p) - fake.off_by);
  --fake.live;
  return true;
}

constinit Backend fake_backend = {
    .name = "fake",
    .how_to_load = "",
    .is_loaded = nullptr,
    .take = fake_take,
    .give = fake_give,
    .surplus_bytes = [](uint64_t taken) { return taken + 5; },
    .gives_zeroed = false,
    .resize = nullptr,
};

class BackendTest : public testing::Test {
 protected:
  BackendTest() {
    fake = {};
    options.purge_ms = 1000;
    fake_os::set_clock(50000);
    backend::select(&fake_backend);
  }
  ~BackendTest() override {
    fake.allocates = false;
    purge_spans(0, true);
    backend::select(&backend::os);
  }
  static size_t taken() { return fake_backend.taken.load(); }

  KeepOptions keep_;
};

TEST_F(BackendTest, AreKnownByName) {
  EXPECT_EQ(backend::find("os"), &backend::os);
  EXPECT_EQ(backend::find("libc"), &backend::libc);
  EXPECT_EQ(backend::find("jemalloc"), &backend::jemalloc);
  EXPECT_EQ(backend::find("mimalloc"), &backend::mimalloc);
  EXPECT_EQ(backend::find("other"), nullptr);
}

TEST_F(BackendTest, DirtyMemoryIsCleared) {
  bool zeroed = false;
  Slab* run = take_run(4, 1, false, &zeroed);
  ASSERT_NE(run, nullptr);
  EXPECT_EQ(Chunk::of(run)->from, &fake_backend);
  EXPECT_TRUE(zeroed);
  EXPECT_TRUE(is_zero(run->start, 4 * kSlotBytes));
  give_run(run);
  Slab* span = take_span(8 * MiB, 1, &zeroed);
  ASSERT_NE(span, nullptr);
  EXPECT_EQ(span->from, &fake_backend);
  EXPECT_TRUE(zeroed);
  EXPECT_TRUE(is_zero(span->start, 8 * MiB));
  give_span(span);
}

// As where the process has locked its memory.
TEST_F(BackendTest, DirtyMemoryThatCannotBePurgedIsClearedAllTheSame) {
  fake_os::Failing no_purge(fake_os::kPurge);
  bool zeroed = false;
  Slab* run = take_run(1, 1, false, &zeroed);
  ASSERT_NE(run, nullptr);
  EXPECT_TRUE(is_zero(run->start, kSlotBytes));
  give_run(run);
  Slab* span = take_span(5 * MiB, 1, &zeroed);
  EXPECT_TRUE(is_zero(span->start, 5 * MiB));
  give_span(span);
}

TEST_F(BackendTest, WhatItTookIsCounted) {
  bool zeroed;
  size_t before = taken();
  size_t held = backend::held_bytes();
  Slab* span = take_span(8 * MiB, 1, &zeroed);
  EXPECT_EQ(taken(), before + 8 * MiB);
  give_span(span);
  purge_spans(0, true);
  EXPECT_EQ(taken(), before);
  EXPECT_LE(backend::held_bytes(), held + MiB) << "but for tables";
}

TEST_F(BackendTest, WhatItHoldsBesidesIsAskedNowAndThen) {
  backend::ask_surplus(true);
  uint64_t first = backend::surplus_bytes();
  EXPECT_EQ(first, taken() + 5);
  bool zeroed;
  Slab* span = take_span(8 * MiB, 1, &zeroed);
  backend::ask_surplus();
  EXPECT_EQ(backend::surplus_bytes(), first) << "within the same second";
  fake_os::advance_clock(1000);
  backend::ask_surplus();
  EXPECT_EQ(backend::surplus_bytes(), first + 8 * MiB);
  give_span(span);
}

// Its pages go to the system, whatever it keeps.
TEST_F(BackendTest, WhatGoesBackIsNotResident) {
  bool zeroed;
  Slab* span = take_span(8 * MiB, 1, &zeroed);
  char* start = span->start;
  memset(start, 1, 8 * MiB);
  give_span(span);
  fake.keeps = true;
  purge_spans(0, true);
  EXPECT_TRUE(is_zero(start, 8 * MiB));
  free(start);
}

TEST_F(BackendTest, ShorterInPlaceLongerByACopy) {
  tally_tag tag = make_tag("/unit/backend/resize");
  auto* p = static_cast<char*>(tally_malloc(tag, 16 * MiB));
  fill(p, 16 * MiB, 3);
  EXPECT_EQ(tally_realloc(tag, p, 9 * MiB), p);
  EXPECT_EQ(own(tag).footprint_bytes, 9 * MiB);
  EXPECT_TRUE(is_filled(p, 9 * MiB, 3));
  EXPECT_TRUE(is_zero(p + 9 * MiB, 7 * MiB)) << "its memory went";
  EXPECT_EQ(tally_realloc(tag, p, 12 * MiB), p) << "there is room still";
  auto* longer = static_cast<char*>(tally_realloc(tag, p, 30 * MiB));
  ASSERT_NE(longer, nullptr);
  EXPECT_NE(longer, p);
  EXPECT_TRUE(is_filled(longer, 9 * MiB, 3));
  tally_free(longer);
  EXPECT_EQ(own(tag).live_blocks, 0U);
}

TEST_F(BackendTest, UnalignedMemoryIsRefused) {
  bool zeroed;
  while (take_run(63, 1, false, &zeroed) != nullptr) fake.fail_from = 0;  // no chunk is left
  fake = {.off_by = kShift};
  size_t before = taken();
  EXPECT_EQ(take_span(8 * MiB, 1, &zeroed), nullptr);
  EXPECT_EQ(take_run(63, 1, false, &zeroed), nullptr);
  EXPECT_EQ(taken(), before);
  EXPECT_EQ(fake.live, 0) << "it went back";
  errno = 0;
  EXPECT_EQ(allocate(8 * MiB), nullptr);
  EXPECT_EQ(errno, ENOMEM);
}

TEST_F(BackendTest, TheNthCallFails) {
  tally_tag tag = make_tag("/unit/backend/nth");
  for (uint64_t n = 0; n < 12; ++n) {
    fake.calls = 0;
    fake.fail_from = n;
    fake.fail_count = 1;
    std::vector<std::pair<char*, size_t>> blocks;
    for (size_t bytes : {size_t{100}, 40 * KiB, 3 * MiB, 6 * MiB, 700 * KiB, 2 * MiB, 9 * MiB}) {
      errno = 0;
      auto* p = static_cast<char*>(tally_malloc(tag, bytes));
      if (p == nullptr) {
        EXPECT_EQ(errno, ENOMEM);
        continue;
      }
      fill(p, bytes, 7);
      errno = 0;
      auto* longer = static_cast<char*>(tally_realloc(tag, p, 2 * bytes));
      if (longer == nullptr) {
        EXPECT_EQ(errno, ENOMEM);
        longer = p;
      }
      EXPECT_TRUE(is_filled(longer, bytes, 7)) << "the " << n << "th call failed";
      blocks.emplace_back(longer, bytes);
    }
    for (auto [p, bytes] : blocks) tally_free(p);
    EXPECT_EQ(own(tag).live_blocks, 0U);
    purge_spans(0, true);
  }
}

TEST_F(BackendTest, WhatItDoesNotTakeBackStaysOurs) {
  bool zeroed;
  Slab* span = take_span(8 * MiB, 1, &zeroed);
  char* start = span->start;
  memset(start, 1, 8 * MiB);
  fake.refuses_back = true;
  size_t before = taken();
  give_span(span);
  purge_spans(0, true);
  EXPECT_EQ(taken(), before);
  EXPECT_TRUE(is_zero(start, 8 * MiB)) << "its pages went, its addresses are lost";
  fake.refuses_back = false;
  free(start);
}

// Its blocks go back whole: none is cut, joined with a neighbour, or given for much less.
TEST_F(BackendTest, SpansStayWhole) {
  bool zeroed;
  Slab* span = take_span(8 * MiB, 1, &zeroed);
  char* start = span->start;
  give_span(span);
  Slab* part = take_span(2 * MiB, 1, &zeroed);
  EXPECT_NE(part->start, start);
  Slab* nearly = take_span(7 * MiB, 1, &zeroed);
  EXPECT_EQ(nearly->start, start);
  EXPECT_EQ(nearly->mapped, 8 * MiB);
  EXPECT_FALSE(zeroed);
  give_span(part);
  give_span(nearly);
}

TEST_F(BackendTest, ChunksKeepTheirAddresses) {
  bool zeroed;
  Slab* run = take_run(63, 1, false, &zeroed);
  Chunk* chunk = Chunk::of(run);
  ASSERT_EQ(chunk->from, &fake_backend);
  give_run(run);
  hollow_chunks();
  EXPECT_FALSE(chunk->hollow);
}

// Memory from before the choice goes back to where it came from.
TEST_F(BackendTest, SpansGoBackToTheirOwn) {
  backend::select(&backend::os);
  bool zeroed;
  Slab* early = take_span(8 * MiB, 1, &zeroed);
  backend::select(&fake_backend);
  Slab* late = take_span(8 * MiB, 1, &zeroed);
  EXPECT_EQ(early->from, &backend::os);
  EXPECT_EQ(late->from, &fake_backend);
  size_t of_os = backend::os.taken.load();
  int live = fake.live;
  give_span(early);
  give_span(late);
  purge_spans(0, true);
  EXPECT_EQ(backend::os.taken.load(), of_os - 8 * MiB);
  EXPECT_EQ(fake.live, live - 1);
}

// Within a call our locks may be held: what is not at hand it gets from the C library, and it may
// free anything.
TEST_F(BackendTest, ItMayCallMallocWithinACall) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the C library's malloc is the sanitizer's";
#endif
  tally_tag tag = make_tag("/unit/backend/inside");
  void* ours = allocate(300);
  fake.held_inside = ours;
  fake.allocates = true;
  errno = EBADF;
  auto* p = static_cast<char*>(tally_malloc(tag, 8 * MiB));
  EXPECT_EQ(errno, EBADF) << "what a backend does to it is undone";
  ASSERT_NE(p, nullptr);
  fill(p, 8 * MiB, 1);
  EXPECT_EQ(find_block(fake.large_inside), nullptr);
  EXPECT_FALSE(backend::is_inside());
  p = static_cast<char*>(tally_realloc(tag, p, 20 * MiB));
  EXPECT_TRUE(is_filled(p, 8 * MiB, 1));
  tally_free(p);
  // Chunks, with the locks of a refill.
  std::vector<void*> blocks;
  for (int i = 0; i < 3000; ++i) blocks.push_back(tally_malloc(tag, 6000));
  for (void* block : blocks) tally_free(block);
  EXPECT_EQ(own(tag).live_blocks, 0U);
  fake.allocates = false;
  release_block(fake.held_inside);
  release_block(fake.large_inside);
}

}  // namespace
}  // namespace tally::unit
