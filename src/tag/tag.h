// Tags: the tree of names, and what each holds.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/config.h"
#include "base/gauge.h"
#include "memory/meta.h"
#include "os/lock.h"
#include "tag/fault.h"
#include "tag/limit.h"

namespace tally::core {

inline constexpr uint32_t kRootTag = 0;
inline constexpr uint32_t kOwnTag = 1;  // "/tally": our metadata
inline constexpr uint32_t kNoTag = ~0U;

enum class TagState : uint8_t {
  kUnused,  // an id that may be given out
  kLive,
  kRetired,  // takes no new blocks; unused again when nothing of it is left
};

// total = own + sum of the children's totals <= its limit; the root's is meta::process. A tag may
// be given out again only with no heaps, total = 0 and no children.
//
// Who writes: `any` any thread, atomically; `lock` under the lock of tags; `const` until the id is
// used again, but whoever only has the id may look at any time.
struct Tag {
  Gauge own{};      // any: footprint of its slabs and large blocks, and what users charged to it
  Account total{};  // any: likewise with all below it; not the root's
  Limit limit{};
  std::atomic<uint64_t> charged{};            // any: of `own`, by tally_charge
  std::atomic<uint64_t> large_live_bytes{};   // any
  std::atomic<uint64_t> large_live_blocks{};  // any
  std::atomic<uint64_t> large_allocs{};       // any: ever
  std::atomic<uint64_t> large_requested{};    // any: ever
  std::atomic<uint64_t> past_allocs{};        // any: of heaps that are gone
  std::atomic<uint64_t> past_requested{};     // any
  std::atomic<uint32_t> heaps{};              // any: heaps that are bound to it
  std::atomic<TagState> state{};              // lock
  uint32_t id = 0;                            // const
  std::atomic<Tag*> parent_tag{};             // const: see parent()
  std::atomic<Fault*> fault_plan{};           // const: see fault()
  const char* name = nullptr;                 // const: the whole path
  uint32_t name_length = 0;                   // const
  uint32_t children = 0;                      // lock
  Tag* next = nullptr;                        // lock: same hash; or the next unused one
  Tag* next_retired = nullptr;                // lock

  bool is_live() const { return state.load(std::memory_order_acquire) == TagState::kLive; }
  // nullptr for the root.
  Tag* parent() const { return parent_tag.load(std::memory_order_relaxed); }
  // Failures that the user asked for, or nullptr.
  Fault* fault() const { return fault_plan.load(std::memory_order_acquire); }
  // What its limit is for.
  Account& account() { return parent() == nullptr ? meta::process : total; }
  const Account& account() const { return parent() == nullptr ? meta::process : total; }
  // Bytes are to be taken for this tag: counted for it and for all above it. False: a limit
  // refuses, and limits_met tells which; nothing is changed. From the tag upwards, as the nearest
  // limit is the likeliest to refuse.
  bool charge(size_t bytes) {
    if (!reserve(bytes, true)) return false;
    own.add(bytes);
    return true;
  }
  // Whether charge would not be refused; as it, but changes nothing.
  bool may_charge(size_t bytes);
  // Bytes come back.
  void uncharge(size_t bytes) {
    own.sub(bytes);  // first, as it is never more than the total
    unreserve(bytes);
  }
  // The first half of charge, and its undoing: for what may fail afterwards, and by itself is in no
  // peak and alarms nobody until note_reserved. `is_sure`: it is noted as it is taken.
  bool reserve(size_t bytes, bool is_sure = false);
  void note_reserved();
  void unreserve(size_t bytes);
  // A block that it counts by itself came, or went.
  void add_large(size_t bytes, size_t requested) {
    large_allocs.fetch_add(1, std::memory_order_relaxed);
    large_requested.fetch_add(requested, std::memory_order_relaxed);
    large_live_blocks.fetch_add(1, std::memory_order_relaxed);
    large_live_bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  void remove_large(size_t bytes) {
    large_live_bytes.fetch_sub(bytes, std::memory_order_relaxed);
    large_live_blocks.fetch_sub(1, std::memory_order_relaxed);
  }
  // A limit of it or above it refused memory not long ago.
  bool is_short() const {
    for (const Tag* tag = this; tag != nullptr; tag = tag->parent()) {
      if (tag->limit.is_short.load(std::memory_order_relaxed)) return true;
    }
    return false;
  }
  // Or it is above a soft limit.
  bool is_pressed() const { return pressure() != Pressure::kNormal || is_short(); }
  // The highest level of it and those above.
  Pressure pressure() const {
    auto highest = Pressure::kNormal;
    for (const Tag* tag = this; tag != nullptr; tag = tag->parent()) {
      Pressure level = tag->limit.level.load(std::memory_order_relaxed);
      if (level > highest) highest = level;
    }
    return highest;
  }
  // The nearest tag upwards that takes new blocks.
  Tag* nearest_live() {
    Tag* tag = this;
    while (!tag->is_live()) tag = tag->parent();
    return tag;
  }
};

// `tag` is `above` or below it.
inline bool is_within(const Tag* tag, const Tag* above) {
  while (tag != nullptr && tag != above) tag = tag->parent();
  return tag != nullptr;
}

// The one lock of the tree; taken before any other of ours.
extern constinit Lock tags_lock;
// Counts retirements, so that threads notice that a heap of theirs may have become useless.
extern constinit std::atomic<uint32_t> retirements;

// While one exists, no tag becomes another: names and parents of what find_tag gives stay readable.
// Never blocks, and those to come keep no tag waiting: of two turns it is counted in the one that
// it came in, and a tag that went waits for those of that turn and of the one before.
class TagReader {
 public:
  TagReader()
      : turn_(turn.load(std::memory_order_relaxed)), forks_(forks.load(std::memory_order_relaxed)) {
    counts[turn_].fetch_add(1, std::memory_order_seq_cst);
  }
  ~TagReader() {
    if (forks_ != forks.load(std::memory_order_relaxed)) return;  // it is counted in the parent
    counts[turn_].fetch_sub(1, std::memory_order_release);
  }
  TagReader(const TagReader&) = delete;
  TagReader& operator=(const TagReader&) = delete;

  // Under tags_lock. Nobody reads who came before this turn; only then the next may begin.
  static bool may_turn() {
    return counts[1 - turn.load(std::memory_order_relaxed)].load(std::memory_order_seq_cst) == 0;
  }
  static void take_turn() {
    turn.store(1 - turn.load(std::memory_order_relaxed), std::memory_order_seq_cst);
  }
  // In a child, where other threads' are gone; and it may come back, from a handler that forked, to
  // one of its own, which is not counted from here on.
  static void forget_all() {
    for (auto& count : counts) count.store(0, std::memory_order_relaxed);
    forks.fetch_add(1, std::memory_order_relaxed);
  }

 private:
  static constinit std::atomic<uint32_t> turn;  // 0 or 1
  static constinit std::atomic<uint32_t> counts[2];
  static constinit std::atomic<uint32_t> forks;

  const uint32_t turn_;
  const uint32_t forks_;
};

// The tag of an id, or nullptr if no tag has it. Never blocks.
Tag* find_tag(uint32_t id);
// Likewise, if it takes new blocks.
Tag* taking_tag(uint32_t id);
// The root, from the first instruction of the process.
Tag* root_tag();

// These follow tally_tag_create, _find and _retire, and return an errno or 0. `path` is checked.
int create_tag(const char* path, uint32_t* id);
int lookup_tag(const char* path, uint32_t* id);
int retire_tag(uint32_t id);

// Whether create_tag would take the path; an errno, or 0. EPERM: that is Tally's own.
int check_tag_path(const char* path);
// The tag of a path that check_tag_path takes, made if there is none. Where it is retired, or
// cannot be made, the nearest above it that takes new blocks. Who has a TagReader gets no other's.
Tag* tag_at_or_above(const char* path);

// One above the highest id ever given out.
uint32_t tag_limit();

}  // namespace tally::core
