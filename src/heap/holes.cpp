#include "heap/holes.h"

#include <atomic>
#include <bit>
#include <initializer_list>

#include "backend/backend.h"
#include "base/math.h"
#include "heap/purge.h"
#include "heap/slab_ops.h"
#include "memory/chunk.h"
#include "memory/meta.h"
#include "memory/refusal.h"
#include "os/os.h"

namespace tally::core {
namespace {

// Smaller programs keep their pages.
constexpr uint64_t kLeastFootprint = 64 * MiB;
constinit Refusal g_refusal;
constexpr uint32_t kMaxBlocks = kSlotBytes / kMinAlignment;

// What digging is worth: memory that went back and was soon wanted again has cost two system calls
// and a page fault. Both figures fade with the rounds of the purge, so that a program whose ways
// change is tried again. Any thread; a lost update does no harm.
class Worth {
 public:
  void note_dug(size_t bytes) { dug_ = dug_ + bytes; }
  void note_in_vain(size_t bytes) { in_vain_ = in_vain_ + bytes; }
  bool is_there() {
    uint32_t rounds = purge_rounds.load(std::memory_order_relaxed);
    if (rounds != rounds_) {
      rounds_ = rounds;
      dug_ = dug_ - dug_ / 8;
      in_vain_ = in_vain_ - in_vain_ / 8;
    }
    return in_vain_ <= dug_ / 4 + kTried;
  }

 private:
  static constexpr size_t kTried = 1 * MiB;
  Relaxed<size_t> dug_ = 0, in_vain_ = 0;
  Relaxed<uint32_t> rounds_ = 0;
};
constinit Worth g_worth;

// A slab's blocks and granules, by their places from the start of its first slot.
class Layout {
 public:
  explicit Layout(const Slab* slab)
      : base_(address(slab->start) & ~(kSlotBytes - 1)),
        first_(address(slab->start) - base_),
        end_(first_ + size_t{slab->carved.load(std::memory_order_relaxed)} * slab->block_size),
        size_(slab->block_size),
        granule_(max_of(os::page_size(), slab->slots * kSlotBytes / 64)) {}

  size_t granule() const { return granule_; }
  char* start_of(unsigned granule) const {
    return reinterpret_cast<char*>(base_ + granule * granule_);
  }
  unsigned granules() const { return static_cast<unsigned>(divide_up(end_, granule_)); }
  // Only blocks lie in it.
  bool is_covered(unsigned granule) const {
    return granule * granule_ >= first_ && (granule + 1) * granule_ <= end_;
  }
  // The first and the last block of which a part lies in it.
  uint32_t first_in(unsigned granule) const {
    size_t at = granule * granule_;
    return at <= first_ ? 0 : static_cast<uint32_t>((at - first_) / size_);
  }
  uint32_t last_in(unsigned granule) const {
    size_t last = min_of((granule + 1) * granule_, end_) - 1;
    return static_cast<uint32_t>((last - first_) / size_);
  }
  // The granules that a block lies in.
  uint64_t granules_of(uint32_t block) const {
    size_t at = first_ + size_t{block} * size_;
    auto first = static_cast<unsigned>(at / granule_);
    auto last = static_cast<unsigned>((at + size_ - 1) / granule_);
    return ~uint64_t{0} << first & ~uint64_t{0} >> (63 - last);
  }

 private:
  uintptr_t base_;
  size_t first_, end_, size_, granule_;
};

class BlockSet {
 public:
  void add(uint32_t i) { words_[i / 64] |= uint64_t{1} << i % 64; }
  bool has(uint32_t i) const { return (words_[i / 64] >> i % 64 & 1) != 0; }
  bool has_all(uint32_t first, uint32_t last) const {
    while (first <= last && has(first)) ++first;
    return first > last;
  }

 private:
  uint64_t words_[kMaxBlocks / 64] = {};
};

size_t bytes_of(uint64_t holes, const Layout& layout) {
  return static_cast<size_t>(std::popcount(holes)) * layout.granule();
}

// Holes are to be memory again. False: a limit refuses.
bool commit(Slab* slab, size_t bytes) {
  if (!tag_of(slab)->charge(bytes)) return false;
  slab->bytes.store(slab->bytes.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  g_worth.note_in_vain(bytes);
  return true;
}

// Granules that none but these blocks lie in, and that are no holes yet.
uint64_t find_holes(const Slab* slab, const Layout& layout, const BlockSet& blocks) {
  uint64_t found = 0;
  for (unsigned g = 0; g < layout.granules(); ++g) {
    if (layout.is_covered(g) && blocks.has_all(layout.first_in(g), layout.last_in(g))) {
      found |= uint64_t{1} << g;
    }
  }
  return found & ~slab->holes;
}

// Those that the system took.
uint64_t give_back(const Slab* slab, uint64_t holes, const Layout& layout) {
  if (holes != 0) keep_pages_small(Chunk::of(slab));
  uint64_t given = 0;
  while (holes != 0) {
    auto first = static_cast<unsigned>(std::countr_zero(holes));
    auto count = static_cast<unsigned>(std::countr_one(holes >> first));
    uint64_t run = ~uint64_t{0} >> (64 - count) << first;
    if (backend::purge(layout.start_of(first), count * layout.granule())) given |= run;
    holes &= ~run;
  }
  return given;
}

}  // namespace

size_t dig_holes(Slab* slab) {
  // There what others freed is left where it is while the slab has some of its own.
  if constexpr (kHardened) collect(slab);
  if (slab->free_count() == 0 || look_at_free(slab, ~0U) == nullptr) return 0;
  Layout layout(slab);
  if (layout.granules() < 2) return 0;
  uint32_t carved = slab->carved.load(std::memory_order_relaxed);
  BlockSet blocks;
  for (const Block* block = slab->free; block != nullptr; block = block->next()) {
    blocks.add(slab->index_of(block));
  }
  for (uint32_t i = 0; slab->holes != 0 && i < carved; ++i) {
    if ((layout.granules_of(i) & slab->holes) != 0) blocks.add(i);
  }
  uint64_t found = find_holes(slab, layout, blocks);
  if (found == 0) return 0;
  uint64_t given = give_back(slab, found, layout);
  if (given == 0) g_refusal.note(os::now_ms());
  slab->holes |= given;
  // Even if the system took nothing: it may have dropped a part before it refused.
  slab->in_holes = 0;
  Block* next = nullptr;
  for (uint32_t i = carved; i-- != 0;) {
    if (!blocks.has(i)) continue;
    if ((layout.granules_of(i) & slab->holes) != 0) {
      ++slab->in_holes;
    } else {
      auto* block = reinterpret_cast<Block*>(slab->block_at(i));
      if (kHardened && (layout.granules_of(i) & found) != 0) {
        hardened::close(block, slab->block_size, false);
      }
      block->link(next);
      next = block;
    }
  }
  slab->free = next;
  size_t bytes = bytes_of(given, layout);
  slab->bytes.store(slab->bytes.load(std::memory_order_relaxed) - bytes, std::memory_order_relaxed);
  tag_of(slab)->uncharge(bytes);
  return bytes;
}

size_t dig_holes_of(Heap* heap) {
  size_t bytes = 0;
  for (const Heap::Store& store : heap->store) {
    for (Slab* slab = store.available; slab != nullptr; slab = slab->next) bytes += dig_holes(slab);
  }
  return bytes;
}

size_t dig_all_holes(Thread* thread) {
  size_t bytes = 0;
  thread->for_each_heap([&](Heap* heap) { bytes += dig_holes_of(heap); });
  return bytes;
}

void fill_hole(Slab* slab, Block* last) {
  Layout layout(slab);
  auto append = [&](Block* block) {
    if (last == nullptr) {
      slab->free = block;
    } else {
      last->link(block);
    }
    last = block;
  };
  size_t bytes = 0;
  while (slab->holes != 0 && bytes < kBatchBytes) {
    if (!commit(slab, layout.granule())) break;
    auto hole = static_cast<unsigned>(std::countr_zero(slab->holes));
    slab->holes &= slab->holes - 1;
    for (uint32_t i = layout.first_in(hole); i <= layout.last_in(hole); ++i) {
      if ((layout.granules_of(i) & slab->holes) != 0) continue;
      auto* block = reinterpret_cast<Block*>(slab->block_at(i));
      if constexpr (kHardened) hardened::close(block, slab->block_size, false);
      append(block);
      --slab->in_holes;
      bytes += slab->block_size;
    }
  }
  append(nullptr);
}

const Block* find_in_hole(const Slab* slab) {
  Layout layout(slab);
  const Block* block = slab->free;
  while (block != nullptr && (layout.granules_of(slab->index_of(block)) & slab->holes) == 0) {
    block = block->next();
  }
  return block;
}

bool forget_holes(Slab* slab) {
  if (slab->holes != 0 && !commit(slab, bytes_of(slab->holes, Layout(slab)))) return false;
  slab->holes = 0;
  slab->in_holes = 0;
  return true;
}

void lose_holes(Slab* slab) {
  // All of it is free now: the holes are used again with the rest, or would have gone with it.
  if (slab->holes != 0) g_worth.note_in_vain(bytes_of(slab->holes, Layout(slab)));
  slab->holes = 0;
  slab->in_holes = 0;
}

uint32_t next_event(const Slab* slab, uint32_t out) {
  if (meta::process.held() < kLeastFootprint) return 0;
  // With a block out for each page, a third of the pages have none.
  size_t pages = slab->capacity * size_t{slab->block_size} / os::page_size();
  if (pages < 2) return 0;
  auto event = static_cast<uint32_t>(min_of(pages, slab->capacity / 2));
  while (event != 0 && event >= out) event /= 2;
  return event;
}

void note_sparse(Slab* slab) {
  Thread* thread = tls.thread;
  Slab*& place = thread->sparse[thread->next_sparse++ % Thread::kSparse];
  Slab* other = place;
  place = slab;
  slab->sparse = true;
  // It may have become anything by now; if it is another sparse slab of this thread, it will do.
  if (other == nullptr || other->owner.load(std::memory_order_relaxed) != thread) return;
  bool parked = other->parked.load(std::memory_order_relaxed);
  if (!other->is_blocks() || parked || other->all_back()) return;
  if (other->level.out() > other->capacity / 2) return;
  uint64_t now = os::now_ms();
  if (g_refusal.is_recent(now) || !g_worth.is_there()) return;
  bool used = other->used_ms != 0 && static_cast<uint32_t>(now) - other->used_ms < retry_ms();
  if (!used) g_worth.note_dug(dig_holes(other));
}

void note_use(Slab* slab) {
  if (slab->sparse) slab->used_ms = static_cast<uint32_t>(max_of(os::now_ms(), uint64_t{1}));
}

// ---- Tails.

namespace {

constinit std::atomic<size_t> g_tails{0};

size_t give_tail(Slab* slab, uint64_t now) {
  // With holes less is committed than was carved; and what was carved may be carved anew.
  const size_t used =
      (address(slab->start) & (kSlotBytes - 1)) +
      max_of(slab->bytes.load(std::memory_order_relaxed),
             size_t{slab->carved.load(std::memory_order_relaxed)} * slab->block_size);
  const uintptr_t base = address(slab->start) & ~(kSlotBytes - 1);
  const uintptr_t start = round_up(base + used, os::page_size());
  const uintptr_t end = base + slab->slots * kSlotBytes;
  if (start < end) {
    keep_pages_small(Chunk::of(slab));
    if (!backend::purge(reinterpret_cast<char*>(start), end - start)) {
      slab->mapped = now;  // to be asked again
      return 0;
    }
  }
  lose_tail(slab);
  return end - min_of(start, end);
}

}  // namespace

void note_tail(Slab* slab) {
  slab->mapped = max_of(os::now_ms(), uint64_t{1});
  g_tails.fetch_add(1, std::memory_order_relaxed);
}

void lose_tail(Slab* slab) {
  if (slab->mapped == 0) return;
  slab->mapped = 0;
  g_tails.fetch_sub(1, std::memory_order_relaxed);
}

size_t give_tails(Thread* thread, uint64_t now, bool all) {
  constexpr unsigned kAtOnce = 16;
  if (tail_count() == 0) return 0;
  size_t bytes = 0;
  unsigned given = 0;
  thread->for_each_heap([&](Heap* heap) {
    for (const Heap::Store& store : heap->store) {
      for (Slab* slab : {store.available, store.empty}) {
        for (; slab != nullptr && (all || given != kAtOnce); slab = slab->next) {
          if (slab->mapped == 0 || (!all && now < slab->mapped + options.purge_ms)) continue;
          bytes += give_tail(slab, now);
          ++given;
        }
      }
    }
  });
  return bytes;
}

size_t tail_count() { return g_tails.load(std::memory_order_relaxed); }

}  // namespace tally::core
