// The counters with threads: exact at rest whoever freed what, sane at any moment, in signal
// handlers, after fork.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "blocks.hpp"
#include "oracle.hpp"
#include "tally_test.h"

namespace {

constexpr int kThreads = 6;  // more than cores
constexpr int kTags = 8;

// All threads meet here; C++20's std::barrier may allocate.
class Meeting {
 public:
  explicit Meeting(int people) : people_(people) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int round = round_;
    if (++here_ == people_) {
      here_ = 0;
      round_++;
      all_here_.notify_all();
    } else {
      all_here_.wait(lock, [&] { return round_ != round; });
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_here_;
  const int people_;
  int here_ = 0, round_ = 0;
};

std::vector<tally_tag> make_tags(const char* under) {
  std::vector<tally_tag> tags;
  for (int i = 0; i < kTags; i++) {
    tags.push_back(tally_tag_create((std::string(under) + "/" + std::to_string(i)).c_str()));
  }
  return tags;
}

size_t some_size(Random& random) {
  const uint64_t kind = random.below(1000);
  return 1 + random.below(kind < 950 ? 600 : kind < 998 ? 20000 : 500000);
}

// A slot that threads swap blocks through: who takes one out frees it, so most frees are of other
// threads' blocks.
struct Slot {
  std::atomic<void*> block{nullptr};
};

// Traffic of one thread: allocates under random tags, puts the block in a random slot, frees what
// was there.
void traffic(int steps, uint64_t seed, const std::vector<tally_tag>& tags, std::vector<Slot>& slots,
             std::vector<Oracle>& oracles) {
  Random random(seed);
  const auto index_of = [&](void* p) {
    return static_cast<size_t>(std::find(tags.begin(), tags.end(), tally_tag_of(p)) - tags.begin());
  };
  for (int i = 0; i < steps; i++) {
    const size_t tag = random.below(tags.size());
    const size_t size = some_size(random);
    void* p = tally_malloc(tags[tag], size);
    oracles[tag].allocated(p, size);
    void* old = slots[random.below(slots.size())].block.exchange(p);
    if (old != nullptr) free(oracles[index_of(old)].freeing(old));
  }
}

// Threads free each other's blocks, then stand still, alive, with whatever they keep in their
// caches.
TEST(StatsLive, ExactWhileTheThreadsStandStillAndAfterTheyEnded) {
  const auto tags = make_tags("/still");
  std::vector<Slot> slots(500);
  std::vector<std::vector<Oracle>> oracles(kThreads, std::vector<Oracle>(kTags));
  Meeting meeting(kThreads + 1);
  std::vector<std::thread> threads;
  constexpr int kRounds = 5;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < kRounds; round++) {
        traffic(20000, static_cast<uint64_t>(round * 100 + t + 1), tags, slots, oracles[t]);
        meeting.wait();  // at rest
        meeting.wait();  // counted
      }
    });
  }
  const auto expect_exact = [&] {
    for (int tag = 0; tag < kTags; tag++) {
      Oracle sum;
      for (auto& oracle : oracles) sum += oracle[tag];
      sum.expect_matches(stats_of(tags[tag]).own);
      expect_sane_at_rest(stats_of(tags[tag]).own);
    }
  };
  for (int round = 0; round < kRounds; round++) {
    meeting.wait();
    expect_exact();
    meeting.wait();
  }
  for (auto& thread : threads) thread.join();
  expect_exact();
  for (Slot& slot : slots) free(slot.block.load());
  for (tally_tag tag : tags) EXPECT_EQ(stats_of(tag).own.live_bytes, 0u);
  malloc_trim(0);
  for (tally_tag tag : tags) EXPECT_LT(stats_of(tag).own.footprint_bytes, size_t{1} << 20);
}

TEST(StatsLive, BlocksOfThreadsThatEndedAreStillCountedAndFreedByOthers) {
  const tally_tag tag = tally_tag_create("/ended");
  std::vector<void*> blocks;
  blocks.reserve(250);
  Oracle oracle;
  for (int i = 0; i < 50; i++) {
    std::thread([&] {
      tally_tag_push(tag);
      for (size_t size : {10ul, 100ul, 1000ul, 50000ul, 2000000ul}) {
        blocks.push_back(oracle.allocated(tally_malloc(tag, size), size));
        free(oracle.freeing(oracle.allocated(malloc(size), size)));
      }
    }).join();
    oracle.expect_matches(stats_of(tag).own);
  }
  std::thread([&] {
    for (void* p : blocks) free(oracle.freeing(p));
  }).join();
  oracle.expect_matches(stats_of(tag).own);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 0u);
}

void expect_sane(const tally_snapshot_t& snapshot) {
  uint64_t live = 0;
  for (uint64_t i = 0; i < snapshot.tag_count; i++) {
    expect_sane(snapshot.tags[i].own);
    expect_sane(snapshot.tags[i].total);
    EXPECT_LE(snapshot.tags[i].own.live_bytes, snapshot.tags[i].total.live_bytes);
    live += snapshot.tags[i].own.live_bytes;
  }
  EXPECT_EQ(snapshot.process.live_bytes, live);
  EXPECT_LE(snapshot.process.live_bytes, snapshot.process.footprint_bytes);
  for (uint64_t i = 0; i < snapshot.class_count; i++) {
    const tally_class_stats_t& c = snapshot.classes[i];
    EXPECT_LE(c.live_blocks, c.capacity_blocks);
  }
}

TEST(StatsLive, SnapshotsAreSaneWhileThreadsAllocate) {
  const auto tags = make_tags("/moving");
  std::vector<void*> held;
  const tally_tag held_tag = tally_tag_create("/moving/held");
  for (int i = 0; i < 10000; i++) held.push_back(tally_malloc(held_tag, 100));
  std::vector<Slot> slots(300);
  std::vector<std::vector<Oracle>> oracles(kThreads, std::vector<Oracle>(kTags));
  std::atomic<bool> enough{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([&, t] {
      for (uint64_t seed = static_cast<uint64_t>(t + 1); !enough; seed += kThreads) {
        traffic(2000, seed, tags, slots, oracles[t]);
      }
    });
  }
  uint64_t last_allocs = 0;
  for (int taken = 0; taken < 200 && !testing::Test::HasFailure(); taken++) {
    tally_snapshot_t* snapshot = tally_snapshot();
    EXPECT_NE(snapshot, nullptr);
    if (snapshot == nullptr) break;  // not ASSERT: the threads must be joined
    expect_sane(*snapshot);
    uint64_t allocs = 0;
    for (uint64_t i = 0; i < snapshot->tag_count; i++) {
      const tally_stats_t& tag = snapshot->tags[i];
      if (tag.id == held_tag) {
        EXPECT_EQ(tag.own.live_blocks, 10000u) << "a tag at rest is exact whatever others do";
      }
      if (std::string(tag.name).rfind("/moving/", 0) == 0) allocs += tag.own.alloc_count;
    }
    EXPECT_GE(allocs, last_allocs) << "cumulative counts never fall";
    last_allocs = allocs;
    tally_snapshot_free(snapshot);
    usleep(2000);
  }
  enough = true;
  for (auto& thread : threads) thread.join();
  for (int tag = 0; tag < kTags; tag++) {
    Oracle sum;
    for (auto& oracle : oracles) sum += oracle[tag];
    sum.expect_matches(stats_of(tags[tag]).own);
  }
  for (Slot& slot : slots) free(slot.block.load());
  for (void* p : held) free(p);
}

std::atomic<int> ticks, insane;
tally_tag ticked_tag;

// Everything that the header allows in a handler, in the midst of whatever malloc was doing.
void on_tick(int) {
  static char json[1 << 20];
  static std::atomic_flag busy = ATOMIC_FLAG_INIT;
  const int saved = errno;
  tally_stats_t s;
  s.size = sizeof s;
  if (tally_stats(ticked_tag, &s) != 0 || s.own.live_bytes > s.own.footprint_bytes ||
      s.own.alloc_count - s.own.free_count != s.own.live_blocks) {
    insane++;
  }
  if (!busy.test_and_set()) {
    const int tick = ticks++;
    if (tick % 3 == 0 && tally_snapshot_json(json, sizeof json) == 0) insane++;
    if (tick % 3 == 1 && tally_snapshot_text(json, sizeof json) == 0) insane++;
    if (tick % 3 == 2) {
      tally_snapshot_t* snapshot = tally_snapshot();
      if (snapshot == nullptr) insane++;
      tally_snapshot_free(snapshot);
    }
    busy.clear();
  }
  errno = saved;
}

TEST(StatsLive, ReadingInASignalHandlerInTheMidstOfMalloc) {
  ticked_tag = tally_tag_create("/ticked");
  const tally_tag churned = tally_tag_create("/ticked/churned");
  struct sigaction action = {}, old = {};
  action.sa_handler = on_tick;
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(sigaction(SIGPROF, &action, &old), 0);
  const itimerval every = {{0, 1000}, {0, 1000}}, never = {};
  ASSERT_EQ(setitimer(ITIMER_PROF, &every, nullptr), 0);
  std::vector<std::thread> threads;
  std::atomic<bool> stop{false};
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      Random random(static_cast<uint64_t>(t + 1));
      std::vector<void*> mine(200);
      while (!stop) {
        tally_tag_push(t % 2 ? ticked_tag : churned);
        for (void*& p : mine) {
          free(p);
          p = malloc(some_size(random));
        }
        tally_tag_pop();
        if (random.below(20) == 0) malloc_trim(0);
        if (random.below(50) == 0) tally_tag_retire(tally_tag_create("/ticked/brief"));
      }
      for (void* p : mine) free(p);
    });
  }
  while (ticks < 400) usleep(10000);
  stop = true;
  for (auto& thread : threads) thread.join();
  setitimer(ITIMER_PROF, &never, nullptr);
  sigaction(SIGPROF, &old, nullptr);
  EXPECT_EQ(insane, 0);
  EXPECT_EQ(stats_of(ticked_tag).own.live_blocks, 0u);
  EXPECT_EQ(stats_of(churned).own.live_blocks, 0u);
}

// Runs check in a child of fork; it must not use the test framework, and returns 0 if all is well.
template <class Check>
void in_child(Check check) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(30);
    _exit(check());
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(StatsFork, TheChildGoesOnFromTheParentsCountsAndDoesNotTouchThem) {
  const tally_tag tag = tally_tag_create("/forked");
  std::vector<void*> blocks;
  for (int i = 0; i < 3000; i++) blocks.push_back(tally_malloc(tag, 1 + i));
  std::thread([&] { blocks.push_back(tally_malloc(tag, 3000000)); }).join();
  const tally_counts before = stats_of(tag).own;
  in_child([&] {
    const tally_counts inherited = stats_of(tag).own;
    if (memcmp(&inherited, &before, sizeof before) != 0) return 1;
    for (void* p : blocks) free(p);
    const tally_counts emptied = stats_of(tag).own;
    if (emptied.live_blocks != 0 || emptied.live_bytes != 0) return 2;
    if (emptied.free_count != before.free_count + blocks.size()) return 3;
    void* p = tally_malloc(tag, 100);
    if (stats_of(tag).own.live_bytes != counted_bytes(p)) return 4;
    tally_snapshot_t* snapshot = tally_snapshot();
    if (snapshot == nullptr || snapshot->pid != getpid()) return 5;
    return 0;
  });
  const tally_counts after = stats_of(tag).own;
  EXPECT_EQ(memcmp(&after, &before, sizeof before), 0);
  for (void* p : blocks) free(p);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 0u);
}

// The other threads do not exist in the child: their blocks do, and what they were doing is lost at
// most.
TEST(StatsFork, WhileThreadsAllocateTheChildsCountsAreSane) {
  const auto tags = make_tags("/forking");
  const tally_tag quiet = tally_tag_create("/forking/quiet");
  std::vector<void*> mine;
  for (int i = 0; i < 1000; i++) mine.push_back(tally_malloc(quiet, 1 + i * 3));
  std::vector<Slot> slots(300);
  std::vector<std::vector<Oracle>> oracles(4, std::vector<Oracle>(kTags));
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      for (uint64_t seed = static_cast<uint64_t>(t + 1); !stop; seed += 10) {
        traffic(1000, seed, tags, slots, oracles[t]);
      }
    });
  }
  for (int i = 0; i < 30 && !testing::Test::HasFailure(); i++) {
    in_child([&] {
      if (stats_of(quiet).own.live_blocks != mine.size()) return 1;
      for (tally_tag tag : tags) {
        const tally_counts c = stats_of(tag).own;
        if (c.live_bytes > c.footprint_bytes || c.alloc_count - c.free_count != c.live_blocks)
          return 2;
      }
      for (void* p : mine) free(p);
      if (stats_of(quiet).own.live_blocks != 0) return 3;
      if (stats_of(quiet).own.live_bytes != 0) return 4;
      return 0;
    });
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  for (Slot& slot : slots) free(slot.block.load());
  for (void* p : mine) free(p);
  for (tally_tag tag : tags) EXPECT_EQ(stats_of(tag).own.live_blocks, 0u);
}

}  // namespace
