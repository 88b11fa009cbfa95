// The sampled heap profile: the blocks that were sampled and live, and what is known of all that
// ever were, by the stack that allocated them and by tag.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/index.h"
#include "os/lock.h"
#include "sample/unwind.h"
#include "tag/names.h"
#include "tag/tag.h"

namespace tally::core {

// An estimate: each sample stands for as many blocks as it takes on average to have one sampled.
struct Amount {
  double objects = 0;
  double bytes = 0;

  void add(double weight, uint64_t size) {
    objects += weight;
    bytes += weight * static_cast<double>(size);
  }
  void add(const Amount& other) {
    objects += other.objects;
    bytes += other.bytes;
  }
  void take(double weight, uint64_t size) {
    objects -= weight;
    bytes -= weight * static_cast<double>(size);
  }
};

// A frame of a stack, and who called it: stacks are a tree, of which nothing is ever removed. A
// stack is the index of its innermost call. Entry 0 is the root, which no frame is.
struct Call {
  uintptr_t address;
  uint32_t caller;
  uint32_t module;
};

// How long sampled blocks lived, in steps: the highest of each, in ns; the last has none.
inline constexpr uint64_t kLifetimes[] = {
    1000000,         // 1 ms
    10000000,        // 10 ms
    100000000,       // 100 ms
    1000000000,      // 1 s
    10000000000,     // 10 s
    60000000000,     // 1 min
    600000000000,    // 10 min
    3600000000000,   // 1 h
    86400000000000,  // 1 day
};
inline constexpr size_t kLifetimeSteps = sizeof kLifetimes / sizeof *kLifetimes + 1;

// One stack and one tag. `peak` and `marks` are what was live at moments of the profile's, and kept
// only by who changes: before a site's first change since such a moment, `live` is put there.
struct Site {
  uint32_t call;     // innermost; 0: unknown
  uint32_t tag;      // offset in the profile's names
  uint32_t samples;  // live
  bool is_used;
  Amount allocated;
  Amount live;
  Amount peak;
  Amount marks[2];  // at the last mark, and at the one before
  uint32_t peak_epoch;
  uint32_t mark_epoch;
  double lifetimes[kLifetimeSteps];
};

struct Sample {
  uintptr_t block;
  uint64_t bytes;  // block size
  uint64_t requested;
  uint64_t born;  // ns of the uptime
  uint32_t site;
  uint32_t thread;  // id
};

class Profile {
 public:
  static constexpr size_t kCallsMost = 64 * 1024;
  static constexpr size_t kSitesMost = 8 * 1024;
  static constexpr size_t kRestsMost = 256;  // of those sites: tags' stacks that are not told apart
  static constexpr size_t kSamplesMost = 16 * 1024;

  // Bytes between samples in the mean; 0: there are none. It grows before there is no room for
  // samples.
  uint64_t rate() const { return rate_.load(std::memory_order_relaxed); }
  // Once, before all else; 0 does nothing.
  void start(uint64_t rate);
  // Another one for each process.
  uint64_t seed() const { return seed_; }
  // In a forked child.
  void after_fork();
  // A sample could not be taken.
  void lose();

  // What a block is known by. Any thread, with no lock held but perhaps one of a thread.
  struct Block {
    const void* start;
    uint64_t bytes;
    uint64_t requested;
  };
  struct Stack {
    const StackFrame* frames;  // innermost first
    size_t depth;
  };
  // The block, of the tag, was sampled, as one of its last `drawn` bytes is a point: all of them,
  // unless it had grown.
  void add(const Block& block, uint64_t drawn, Tag* tag, const Stack& stack);
  // It is freed. Nothing if it was not sampled.
  void remove(const void* block);
  // It has become another length, and perhaps lies elsewhere. False: it is no sample.
  bool resize(const void* block, const Block& now);
  // It goes by another address. False: it is no sample.
  bool rename(const void* block, const void* name);

  // ---- For who publishes it, with `lock` held.

  // Site by site: what was live at the peak and at the mark is brought up to date first.
  void settle();
  const Call* calls() const { return memory_->calls; }
  uint32_t call_count() const { return call_count_; }
  // Of those up to site_end() some may be unused.
  const Site* sites() const { return memory_->sites; }
  uint32_t site_end() const { return site_end_; }
  const Sample* samples() const { return memory_->samples; }
  uint32_t sample_count() const { return sample_count_; }
  Names& names() { return names_; }
  struct Totals {
    uint64_t begun;    // ns of the uptime, as all here
    uint64_t changes;  // another number after each
    uint64_t taken;
    uint64_t lost;
    uint64_t cut;  // stacks that lost frames for want of room
    uint64_t peak_footprint;
    uint64_t peak_at;
    uint64_t marked_at;
  };
  Totals totals() const;
  // Of its tables, which are in no tag.
  size_t resident_bytes() const;

  Lock lock;

 private:
  struct Memory {
    Call calls[kCallsMost];
    Site sites[kSitesMost];
    Sample samples[kSamplesMost];
    uint32_t call_slots[Index::slots_for(kCallsMost)];
    uint32_t site_slots[Index::slots_for(kSitesMost)];
    uint32_t sample_slots[Index::slots_for(kSamplesMost)];
    char names[Names::kBytes];
  };

  bool take_memory();
  uint32_t call_of(const Stack& stack);
  uint32_t site_of(uint32_t call, uint32_t tag);
  uint32_t any_site_of(uint32_t call, uint32_t tag);
  uint32_t rest_of(uint32_t tag);
  void join_idle_sites();
  void thin_out();
  uint32_t find_sample(const void* block) const;
  void drop_sample(uint32_t index);
  double weight_of(uint64_t bytes) const;
  void touch(Site* site) const;
  void keep_marks(uint64_t now);
  void look_for_peak(uint64_t now);

  std::atomic<uint64_t> rate_{0};
  Memory* memory_ = nullptr;
  Names names_;
  Index call_index_, site_index_, sample_index_;
  uint32_t call_count_ = 0;
  uint32_t site_end_ = 0;
  uint32_t site_count_ = 0;
  uint32_t idle_sites_ = 0;  // without a live sample, but for the rests
  uint32_t rests_ = 0;       // sites of tags' stacks that are not told apart
  uint32_t free_from_ = 0;   // below it all are used
  uint32_t sample_count_ = 0;
  uint32_t peak_epoch_ = 0;
  uint32_t mark_epoch_ = 0;
  uint64_t marked_[2] = {};  // ns: the last mark, and the one before
  uint64_t random_ = 0;
  uint64_t seed_ = 0;
  Totals totals_ = {};
};

extern constinit Profile profile;

}  // namespace tally::core
