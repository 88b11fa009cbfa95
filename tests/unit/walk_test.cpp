#include "stats/walk.h"

#include <errno.h>

#include <algorithm>
#include <map>
#include <string>

#include "backend/backend.h"
#include "fake_os.h"
#include "heap/free.h"
#include "heap/purge.h"
#include "memory/meta.h"
#include "os/os.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// What the test itself knows of a tag.
struct Expected {
  uint64_t bytes = 0, blocks = 0, allocs = 0, requested = 0, large_bytes = 0, large_blocks = 0;

  void expect(const tally_counts& counts, const char* name) const {
    EXPECT_EQ(counts.live_bytes, bytes) << name;
    EXPECT_EQ(counts.live_blocks, blocks) << name;
    EXPECT_EQ(counts.alloc_count, allocs) << name;
    EXPECT_EQ(counts.free_count, allocs - blocks) << name;
    EXPECT_EQ(counts.requested_bytes, requested) << name;
    EXPECT_EQ(counts.large_live_bytes, large_bytes) << name;
    EXPECT_EQ(counts.large_live_blocks, large_blocks) << name;
    EXPECT_GE(counts.footprint_bytes, bytes) << name;
    EXPECT_GE(counts.peak_footprint_bytes, counts.footprint_bytes) << name;
  }
  void add(const Expected& other) {
    bytes += other.bytes;
    blocks += other.blocks;
    allocs += other.allocs;
    requested += other.requested;
    large_bytes += other.large_bytes;
    large_blocks += other.large_blocks;
  }
};

class Account {
 public:
  void* allocate(tally_tag tag, size_t n) {
    void* p = tally_malloc(tag, n);
    EXPECT_NE(p, nullptr);
    Expected& e = tags_[tag];
    bool large = n > kMediumMax;
    e.bytes += tally_usable_size(p);
    ++e.blocks;
    ++e.allocs;
    e.requested += n;
    e.large_bytes += large ? tally_usable_size(p) : 0;
    e.large_blocks += large ? 1 : 0;
    return p;
  }
  void free(void* p) {
    Expected& e = tags_[tally_tag_of(p)];
    size_t bytes = tally_usable_size(p);
    e.bytes -= bytes;
    --e.blocks;
    if (bytes > kMediumMax) {
      e.large_bytes -= bytes;
      --e.large_blocks;
    }
    tally_free(p);
  }
  const Expected& of(tally_tag tag) { return tags_[tag]; }

 private:
  std::map<tally_tag, Expected> tags_;
};

class Snapshot {
 public:
  Snapshot() : snapshot_(take_snapshot()) { EXPECT_NE(snapshot_, nullptr); }
  ~Snapshot() { free_snapshot(snapshot_); }
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  const tally_snapshot_t* operator->() const { return snapshot_; }
  const tally_stats_t* find(tally_tag tag) const {
    for (uint64_t i = 0; i < snapshot_->tag_count; ++i) {
      if (snapshot_->tags[i].id == tag) return &snapshot_->tags[i];
    }
    return nullptr;
  }

 private:
  tally_snapshot_t* snapshot_;
};

// A tree in which the first child holds nothing, so that no sum can hide behind it; one for each
// test, as counts of allocations last as long as a tag.
class WalkTest : public testing::Test {
 protected:
  WalkTest() {
    std::string top =
        std::string("/") + testing::UnitTest::GetInstance()->current_test_info()->name();
    for (const char* path : {"", "/a", "/a/b", "/a!", "/c", "/c/d", "er"}) {
      tags_.push_back(make_tag((top + path).c_str()));
    }
    for (unsigned i = 2; i < tags_.size(); ++i) {
      for (size_t n :
           {size_t{1}, size_t{100}, size_t{3000}, size_t{40000}, size_t{100000}, 2 * MiB}) {
        for (unsigned j = 0; j < i; ++j) blocks_.push_back(account_.allocate(tags_[i], n + j));
      }
    }
    for (size_t i = 0; i < blocks_.size(); i += 3) {
      account_.free(blocks_[i]);
      blocks_[i] = nullptr;
    }
  }
  ~WalkTest() override {
    for (void* p : blocks_) tally_free(p);
  }
  // Of a tag and all below it, by its path.
  Expected total(const char* path) {
    Expected sum;
    std::string prefix = std::string(path) + "/";
    for (tally_tag tag : tags_) {
      std::string name = find_tag(tag)->name;
      if (name == path || name.compare(0, prefix.size(), prefix) == 0) sum.add(account_.of(tag));
    }
    return sum;
  }

  std::vector<tally_tag> tags_;
  std::vector<void*> blocks_;
  Account account_;
};

TEST_F(WalkTest, StatsAreExact) {
  for (tally_tag tag : tags_) {
    tally_stats_t row = stats(tag);
    account_.of(tag).expect(row.own, row.name);
    total(row.name).expect(row.total, row.name);
    EXPECT_EQ(row.id, tag);
    EXPECT_EQ(row.parent, find_tag(tag)->parent()->id);
    EXPECT_EQ(row.version, static_cast<uint32_t>(TALLY_STATS_VERSION));
    EXPECT_EQ(row.retired, 0U);
  }
}

TEST_F(WalkTest, SnapshotsAreExact) {
  Snapshot snapshot;
  for (tally_tag tag : tags_) {
    const tally_stats_t* row = snapshot.find(tag);
    ASSERT_NE(row, nullptr);
    account_.of(tag).expect(row->own, row->name);
    total(row->name).expect(row->total, row->name);
    EXPECT_EQ(row->own.footprint_bytes, own(tag).footprint_bytes);
    EXPECT_EQ(row->total.footprint_bytes, stats(tag).total.footprint_bytes);
  }
}

TEST_F(WalkTest, TheRootsTotalIsTheSumOfAll) {
  tally_stats_t root = stats(kRootTag);
  Snapshot snapshot;
  tally_counts sum = {};
  for (uint64_t i = 0; i < snapshot->tag_count; ++i) {
    sum.live_bytes += snapshot->tags[i].own.live_bytes;
    sum.live_blocks += snapshot->tags[i].own.live_blocks;
    sum.footprint_bytes += snapshot->tags[i].own.footprint_bytes;
    sum.alloc_count += snapshot->tags[i].own.alloc_count;
    sum.requested_bytes += snapshot->tags[i].own.requested_bytes;
  }
  for (const tally_counts& total : {root.total, snapshot.find(kRootTag)->total}) {
    EXPECT_EQ(total.live_bytes, sum.live_bytes);
    EXPECT_EQ(total.live_blocks, sum.live_blocks);
    EXPECT_EQ(total.footprint_bytes, sum.footprint_bytes);
    EXPECT_EQ(total.alloc_count, sum.alloc_count);
    EXPECT_EQ(total.requested_bytes, sum.requested_bytes);
  }
  EXPECT_EQ(snapshot->process.live_bytes, sum.live_bytes);
  EXPECT_EQ(snapshot->process.footprint_bytes, sum.footprint_bytes);
}

TEST_F(WalkTest, TheProcess) {
  Snapshot snapshot;
  EXPECT_EQ(snapshot->size, sizeof(tally_snapshot_t));
  EXPECT_EQ(snapshot->version, static_cast<uint32_t>(TALLY_STATS_VERSION));
  EXPECT_EQ(snapshot->pid, os::process_id());
  EXPECT_STREQ(snapshot->backend, "os");
  EXPECT_GT(snapshot->process.rss_bytes, 0U);
  EXPECT_EQ(snapshot->process.mapped_bytes, backend::held_bytes());
  EXPECT_EQ(snapshot->process.metadata_bytes, meta::footprint.now.load());
  EXPECT_EQ(snapshot.find(kOwnTag)->own.footprint_bytes, meta::footprint.now.load());
  EXPECT_EQ(snapshot.find(kOwnTag)->own.live_bytes, meta::used_bytes());
  EXPECT_GE(snapshot->process.footprint_bytes, snapshot->process.live_bytes);
}

TEST_F(WalkTest, RowsAreByPath) {
  Snapshot snapshot;
  EXPECT_STREQ(snapshot->tags[0].name, "/");
  EXPECT_EQ(snapshot->tags[0].parent, TALLY_TAG_NONE);
  for (uint64_t i = 1; i < snapshot->tag_count; ++i) {
    EXPECT_LT(strcmp(snapshot->tags[i - 1].name, snapshot->tags[i].name), 0);
  }
}

TEST_F(WalkTest, ClassesAddUpToTheirTag) {
  Snapshot snapshot;
  std::map<tally_tag, tally_counts> sums;
  for (uint64_t i = 0; i < snapshot->class_count; ++i) {
    const tally_class_stats_t& row = snapshot->classes[i];
    EXPECT_GT(row.slabs, 0U);
    EXPECT_LE(row.live_blocks, row.capacity_blocks);
    EXPECT_LE(row.capacity_blocks * row.block_size, row.footprint_bytes);
    sums[row.tag].live_bytes += row.live_blocks * row.block_size;
    sums[row.tag].footprint_bytes += row.footprint_bytes;
    if (i > 0 && snapshot->classes[i - 1].tag == row.tag) {
      EXPECT_LT(snapshot->classes[i - 1].block_size, row.block_size);
    }
  }
  for (tally_tag tag : tags_) {
    const tally_counts& counts = snapshot.find(tag)->own;
    EXPECT_EQ(sums[tag].live_bytes + counts.large_live_bytes, counts.live_bytes);
    EXPECT_EQ(sums[tag].footprint_bytes + counts.large_live_bytes, counts.footprint_bytes);
  }
}

TEST(Walk, ClassesTellHowFullTheirSlabsAre) {
  // Of half a slab, so that a slab has few blocks: one of a slab of two is neither sparse nor full.
  const tally_tag tag = make_tag("/walk/fill");
  constexpr size_t kSize = 16;
  const size_t in_slab = kSlotBytes / kSize;
  std::vector<void*> blocks;
  for (size_t i = 0; i < 4 * in_slab; ++i) blocks.push_back(tally_malloc(tag, kSize));
  auto row_of = [&](const Snapshot& snapshot) {
    for (uint64_t i = 0; i < snapshot->class_count; ++i) {
      if (snapshot->classes[i].tag == tag) return snapshot->classes[i];
    }
    return tally_class_stats_t{};
  };
  // All but every tenth block of the second slab.
  const Slab* emptied = slab_of(blocks[2 * in_slab]);
  std::vector<void*> rest;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (slab_of(blocks[i]) != emptied || i % 10 == 0) {
      rest.push_back(blocks[i]);
    } else {
      tally_free(blocks[i]);
    }
  }
  {
    Snapshot snapshot;
    tally_class_stats_t row = row_of(snapshot);
    EXPECT_EQ(row.live_blocks, rest.size());
    EXPECT_EQ(row.alloc_count, 4 * in_slab);
    EXPECT_EQ(row.requested_bytes, 4 * in_slab * kSize);
    EXPECT_EQ(row.sparse_slabs, 1U);
    EXPECT_NEAR(static_cast<double>(row.sparse_free_bytes), 0.9 * kSlotBytes, 0.05 * kSlotBytes);
    uint64_t slabs = 0;
    for (uint64_t n : row.fill) slabs += n;
    EXPECT_EQ(slabs, row.slabs);
    EXPECT_GE(row.fill[9], 3U);
    EXPECT_EQ(row.fill[0] + row.fill[1], 1U);
    EXPECT_EQ(row.empty_bytes, 0U);
  }
  for (void* block : rest) tally_free(block);
  Snapshot snapshot;
  EXPECT_EQ(row_of(snapshot).sparse_slabs, 0U);
  EXPECT_EQ(row_of(snapshot).empty_bytes, row_of(snapshot).footprint_bytes) << "kept for a while";
}

TEST(Walk, ASnapshotInMemoryThatIsKeptIsTheSame) {
  SnapshotSpace space;
  for (int i = 0; i < 300; ++i) {
    void* p = tally_malloc(make_tag(("/walk/kept/" + std::to_string(i)).c_str()), 10);
    const tally_snapshot_t* kept = take_snapshot_in(&space);
    ASSERT_NE(kept, nullptr);
    Snapshot fresh;
    ASSERT_EQ(kept->tag_count, fresh->tag_count);
    ASSERT_EQ(kept->class_count, fresh->class_count);
    for (uint64_t j = 0; j < fresh->tag_count; ++j) {
      ASSERT_STREQ(kept->tags[j].name, fresh->tags[j].name);
      ASSERT_EQ(memcmp(&kept->tags[j].total, &fresh->tags[j].total, sizeof(tally_counts)), 0)
          << kept->tags[j].name;
    }
    ASSERT_EQ(memcmp(kept->classes, fresh->classes, kept->class_count * sizeof *kept->classes), 0);
    if (i % 2 == 0) tally_free(p);
  }
  meta::unmap(space.start, space.bytes);
}

TEST_F(WalkTest, NothingIsWrittenBeyondTheCallersStruct) {
  union {
    tally_stats_t stats;
    unsigned char bytes[sizeof(tally_stats_t)];
  };
  for (uint32_t size = 0; size <= sizeof stats; ++size) {
    memset(bytes, 0xee, sizeof bytes);
    stats.size = size;
    errno = 0;
    bool head_fits = size >= offsetof(tally_stats_t, own);
    EXPECT_EQ(tally_stats(tags_[2], &stats), head_fits ? 0 : -1);
    EXPECT_EQ(stats.size, size);
    for (size_t i = size < 4 ? 4 : size; i < sizeof bytes; ++i) ASSERT_EQ(bytes[i], 0xee) << size;
    if (!head_fits) {
      EXPECT_EQ(errno, EINVAL);
    }
  }
  EXPECT_EQ(tally_stats(tags_[0], nullptr), -1);
  stats.size = sizeof stats;
  EXPECT_EQ(tally_stats(TALLY_TAG_NONE, &stats), -1);
}

TEST_F(WalkTest, ARetiredTagIsToldAsSuchWhileItHoldsBlocks) {
  ASSERT_EQ(tally_tag_retire(tags_[2]), 0);
  EXPECT_EQ(stats(tags_[2]).retired, 1U);
  Snapshot snapshot;
  EXPECT_EQ(snapshot.find(tags_[2])->retired, 1U);
  account_.of(tags_[2]).expect(snapshot.find(tags_[2])->own, "retired");
}

TEST_F(WalkTest, SnapshotsKeepTheirNames) {
  Snapshot snapshot;
  tally_tag tag = make_tag("/walk/later");
  EXPECT_EQ(snapshot.find(tag), nullptr);
  tally_tag gone = make_tag("/walk/gone");
  Snapshot with;
  ASSERT_EQ(tally_tag_retire(gone), 0);
  for (int i = 0; i < 20; ++i) make_tag(("/walk/new/" + std::to_string(i)).c_str());
  EXPECT_STREQ(with.find(gone)->name, "/walk/gone");
}

TEST_F(WalkTest, WithoutMemoryThereIsNone) {
  fake_os::Failing no_maps(fake_os::kMap);
  EXPECT_EQ(take_snapshot(), nullptr);
  EXPECT_EQ(tally_snapshot_json(nullptr, 0), 0U);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(tally_snapshot_text_fd(1), -1);
  EXPECT_EQ(errno, ENOMEM);
  account_.of(tags_[2]).expect(own(tags_[2]), "stats need no memory");
}

TEST(Walk, AThousandTags) {
  fake_os::set_clock(os::now_ms());  // on a busy machine what goes back by time is most of the work
  Account account;
  std::vector<tally_tag> tags;
  std::vector<void*> blocks;
  Random random(3);
  for (int i = 0; i < 1000; ++i) {
    tags.push_back(
        make_tag(("/thousand/" + std::to_string(i % 37) + "/" + std::to_string(i)).c_str()));
  }
  for (int i = 0; i < 20000; ++i) {
    blocks.push_back(account.allocate(tags[random.below(tags.size())], 1 + random.below(500)));
    if (random.below(3) == 0) {
      size_t which = random.below(blocks.size());
      account.free(blocks[which]);
      blocks[which] = blocks.back();
      blocks.pop_back();
    }
  }
  Snapshot snapshot;
  ASSERT_GE(snapshot->tag_count, 1039U);
  Expected sum;
  for (tally_tag tag : tags) {
    account.of(tag).expect(snapshot.find(tag)->own, find_tag(tag)->name);
    sum.add(account.of(tag));
  }
  sum.expect(snapshot.find(make_tag("/thousand"))->total, "/thousand");
  sum.expect(stats(make_tag("/thousand")).total, "/thousand");
  for (void* p : blocks) tally_free(p);
}

// While others work the figures may be off, but never absurd.
TEST(Walk, BoundsHoldWhileThreadsRun) {
  tally_tag tag = make_tag("/walk/running");
  constexpr unsigned kHeld = 200;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      Random random(t);
      void* held[kHeld] = {};
      while (!stop.load()) {
        size_t which = random.below(kHeld);
        tally_free(held[which]);
        held[which] = tally_malloc(tag, 1 + random.below(100));
      }
      for (void* p : held) tally_free(p);
    });
  }
  for (int i = 0; i < 60; ++i) {
    tally_stats_t row = stats(tag);
    EXPECT_LE(row.own.live_bytes, row.own.footprint_bytes);
    EXPECT_EQ(row.own.free_count, row.own.alloc_count - row.own.live_blocks);
    Snapshot snapshot;
    EXPECT_LE(snapshot->process.live_bytes, snapshot->process.footprint_bytes);
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(own(tag).live_blocks, 0U);
}

TEST(Walk, TagsMayComeAndGoMeanwhile) {
  std::atomic<bool> stop{false};
  std::thread churn([&] {
    for (int i = 0; !stop.load(); ++i) {
      tally_tag tag = tally_tag_create(("/walk/churn/" + std::to_string(i)).c_str());
      // Ids wait for readers, and here one reads nearly always.
      if (tag == TALLY_TAG_NONE) {
        ASSERT_EQ(errno, ENOSPC);
        std::this_thread::yield();
        continue;
      }
      tally_free(tally_malloc(tag, 100));
      tally_tag_retire(tag);
    }
  });
  for (int i = 0; i < 40; ++i) {
    Snapshot snapshot;
    for (uint64_t row = 0; row < snapshot->tag_count; ++row) {
      ASSERT_EQ(snapshot->tags[row].name[0], '/');
    }
    stats(kRootTag);
  }
  stop.store(true);
  churn.join();
}

}  // namespace
}  // namespace tally::unit
