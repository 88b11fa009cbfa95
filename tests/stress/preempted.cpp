// Short histories under forced preemption (base/preempt.h): a few threads that come and go swap a
// few blocks of a few sizes and tags, and wait at the points of the protocols until others have got
// ahead. For each seed some points are chosen at which they nearly always do, as most mistakes need
// a switch at one or two places only; at the others they seldom do. At the end of each history all
// is given back: what each tag counts must be exact, and nothing may be left.
//
//   preempted [--seed N] [--seeds N]
#include <tally/tally.h>
#include <time.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/preempt.h"
#include "blocks.hpp"
#include "lanes.hpp"
#include "sample/profile.h"

namespace {

constexpr size_t kTags = 3, kSlots = 48;
constexpr unsigned kLanes = 3, kLives = 3, kSteps = 120;

std::atomic<uint64_t> g_seed{0};

[[noreturn]] void fail(const char* what, uint64_t a, uint64_t b) {
  fprintf(stderr, "preempted: seed %llu: %s: %llu, %llu\n",
          static_cast<unsigned long long>(g_seed.load()), what, static_cast<unsigned long long>(a),
          static_cast<unsigned long long>(b));
  abort();
}

// ---- Who waits where.

std::atomic<uint64_t> g_passed{0}, g_waited{0};  // points, by all threads
thread_local Random t_choice(1);

void wait_for_others(uint64_t points) {
  constexpr int kPatience = 20;  // they may wait for what this thread holds
  constexpr timespec kNap = {0, 20000};
  const uint64_t until = g_passed.load(std::memory_order_relaxed) + points;
  g_waited.fetch_add(1, std::memory_order_relaxed);
  for (int i = 0; i < kPatience && g_passed.load(std::memory_order_relaxed) < until; ++i) {
    nanosleep(&kNap, nullptr);
  }
}

bool is_hot(const char* name) {
  uint64_t hash = g_seed.load(std::memory_order_relaxed) * 0x9e3779b97f4a7c15;
  for (; *name != 0; ++name) hash = (hash ^ static_cast<unsigned char>(*name)) * 1099511628211U;
  return (hash >> 32) % 6 == 0;
}

void at_point(const char* name) {
  g_passed.fetch_add(1, std::memory_order_relaxed);
  if (t_choice.below(is_hot(name) ? 4 : 100) == 0) wait_for_others(1 + t_choice.below(200));
}

// ---- What they do.

std::array<Slot, kSlots> g_slots;
std::array<tally_tag, kTags> g_tags;
std::array<std::atomic<uint64_t>, kTags> g_allocs, g_frees;

tally_stats_t stats_of(tally_tag tag) {
  tally_stats_t stats = {};
  stats.size = sizeof stats;
  if (tally_stats(tag, &stats) != 0) fail("no statistics", tag, 0);
  return stats;
}

// In one history one size of which a slab holds few, so that slabs fill and empty all the time;
// some small ones, and seldom large ones.
size_t some_size(Random& random) {
  constexpr size_t kFew[] = {20000, 40000, 60000}, kSmall[] = {40, 900, 3000};
  const uint64_t seed = g_seed.load(std::memory_order_relaxed);
  const uint64_t kind = random.below(20);
  return kind < 13 ? kFew[seed % 3] : kind < 19 ? kSmall[seed / 3 % 3] : 70000;
}

// The last tag has a limit, which is met; most blocks are of the first.
Block allocate(Random& random) {
  Block block;
  block.tag = static_cast<uint32_t>(random.below(8));
  if (block.tag >= kTags) block.tag = 0;
  block.size = some_size(random);
  block.mark = static_cast<uint32_t>(random.next());
  block.p = tally_malloc(g_tags[block.tag], block.size);
  if (block.p == nullptr && block.tag != kTags - 1) fail("no memory", block.tag, block.size);
  if (block.p == nullptr) return {};
  g_allocs[block.tag].fetch_add(1, std::memory_order_relaxed);
  if (tally_tag_of(block.p) != g_tags[block.tag]) fail("another tag's", block.tag, block.size);
  fill(block.p, block.size, block.mark);
  return block;
}

void release(const Block& block) {
  if (block.p == nullptr) return;
  if (!is_filled(block.p, block.size, block.mark)) fail("was written to", block.tag, block.size);
  g_frees[block.tag].fetch_add(1, std::memory_order_relaxed);
  tally_free(block.p);
}

void brief_tag(Random& random) {
  const std::string path = "/preempted/brief/" + std::to_string(random.below(4));
  const tally_tag tag = tally_tag_create(path.c_str());
  if (tag == TALLY_TAG_NONE) fail("no tag", 0, 0);
  void* p = tally_malloc(tag, some_size(random));  // another thread may retire it meanwhile
  tally_tag_retire(tag);
  tally_free(p);
}

void step(Random& random) {
  Slot& slot = g_slots[random.below(kSlots)];
  const uint64_t kind = random.below(100);
  if (kind < 50) {
    release(slot.swap(allocate(random)));
  } else if (kind < 77) {
    release(slot.swap({}));
  } else if (kind < 85) {
    // All at once, as others may do: slabs empty in the middle of whatever their owners do.
    for (Slot& each : g_slots) release(each.swap({}));
  } else if (kind < 92) {
    brief_tag(random);
  } else if (kind < 96) {
    const tally_stats_t stats = stats_of(g_tags[random.below(kTags)]);
    if (stats.own.live_bytes > stats.own.footprint_bytes) fail("more live than held", 0, 0);
  } else if (kind < 98) {
    tally_trim();
  } else {
    tally_limit_set(g_tags[kTags - 1], TALLY_LIMIT_NONE, 100000 + random.below(400000),
                    TALLY_POLICY_FAIL);
  }
}

void live(uint64_t seed) {
  t_choice = Random(seed * 31 + 7);
  Random random(seed);
  for (unsigned i = 0; i < kSteps; ++i) step(random);
}

void check_the_end() {
  for (Slot& slot : g_slots) release(slot.swap({}));
  tally_trim();
  for (size_t t = 0; t < kTags; ++t) {
    const tally_stats_t stats = stats_of(g_tags[t]);
    if (stats.own.live_blocks != 0) fail("live at the end", t, stats.own.live_blocks);
    if (stats.own.alloc_count != g_allocs[t]) fail("allocs", stats.own.alloc_count, g_allocs[t]);
    if (g_allocs[t] != g_frees[t]) fail("our own books", g_allocs[t], g_frees[t]);
    if (stats.own.footprint_bytes != 0) fail("held at the end", t, stats.own.footprint_bytes);
  }
}

void check_samples() {
  tally::core::LockGuard guard(tally::core::profile.lock);
  if (tally::core::profile.sample_count() == 0) return;
  fail("samples at the end", tally::core::profile.sample_count(), 0);
}

void history(uint64_t seed) {
  g_seed.store(seed);
  std::vector<std::thread> lanes;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    lanes.emplace_back([=] {
      for (unsigned i = 0; i < kLives; ++i) std::thread(live, seed * 100 + lane * 10 + i).join();
    });
  }
  for (std::thread& lane : lanes) lane.join();
  check_the_end();
  check_samples();
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t first = argument(argc, argv, "--seed", 1);
  const uint64_t count = argument(argc, argv, "--seeds", 20);
  expect_backend();
  for (size_t t = 0; t < kTags; ++t) {
    g_tags[t] = tally_tag_create(("/preempted/" + std::to_string(t)).c_str());
  }
  tally::core::point_hook.store(at_point);
  for (uint64_t seed = first; seed < first + count; ++seed) history(seed);
  tally::core::point_hook.store(nullptr);
  printf("%llu points passed, %llu times others were let ahead\n",
         static_cast<unsigned long long>(g_passed.load()),
         static_cast<unsigned long long>(g_waited.load()));
  if (g_waited.load() == 0) fail("nothing was tested", g_passed.load(), 0);
  return 0;
}
