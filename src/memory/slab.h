// The descriptor of a run of slots: a slab of equal blocks, a large block, or nothing. Descriptors
// lie apart from the memory they describe, so that blocks carry no header and a stray write rarely
// reaches one.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/config.h"
#include "base/counter.h"
#include "memory/hardened.h"
#include "memory/size_class.h"

namespace tally::core {

struct Backend;
struct Heap;
struct Thread;

enum class SlabKind : uint8_t {
  kFree = 0,     // no block here; also AddressMap::none()
  kBlocks = 1,   // a slab: blocks of one size class
  kRun = 2,      // one large block, in a chunk
  kSpan = 3,     // one large block, a mapping of its own
  kGuarded = 4,  // one block against a guard page (heap/guarded.h)
};

// Hardened, of a large block: whether it has no bytes; and if so, whether it certainly lies where
// nobody may access memory, and memory reads as zero.
enum class Nothing : uint8_t { kNo, kDirty, kClean };

// What a slab is at the moment, in one word for those who read without a lock.
struct Binding {
  SlabKind kind;
  uint8_t size_class;
  uint16_t tag;

  uint32_t pack() const {
    return uint32_t{tag} | uint32_t{size_class} << 16 | static_cast<uint32_t>(kind) << 24;
  }
  static Binding unpack(uint32_t word) {
    return {static_cast<SlabKind>(word >> 24), static_cast<uint8_t>(word >> 16),
            static_cast<uint16_t>(word)};
  }
};

// Blocks that other threads gave back: a list and its length in one word, so that the length is
// never guessed. Pushers only push and the taker takes all, so no ABA.
class RemoteList {
 public:
  struct Taken {
    Block* first;
    uint32_t count;
  };

  // Any thread. Links the chain in front; returns how many there are then. The full order pairs
  // with Slab::park.
  uint32_t push(Block* first, Block* last, uint32_t count) {
    uint64_t old = word_.load(std::memory_order_relaxed);
    uint64_t now;
    do {
      last->link(reinterpret_cast<Block*>(old >> kCountBits));
      now = reinterpret_cast<uintptr_t>(first) << kCountBits | ((old & kCountMask) + count);
    } while (!word_.compare_exchange_weak(old, now, std::memory_order_seq_cst,
                                          std::memory_order_relaxed));
    return static_cast<uint32_t>(now & kCountMask);
  }
  // Who may allocate from the slab. Release: who sees it taken sees what the level was set to
  // before.
  Taken take() {
    if (word_.load(std::memory_order_relaxed) == 0) return {nullptr, 0};
    uint64_t word = word_.exchange(0, std::memory_order_acq_rel);
    return {reinterpret_cast<Block*>(word >> kCountBits), static_cast<uint32_t>(word & kCountMask)};
  }
  uint32_t count() const {
    return static_cast<uint32_t>(word_.load(std::memory_order_seq_cst) & kCountMask);
  }

 private:
  static constexpr unsigned kCountBits = 16;
  static constexpr uint64_t kCountMask = (uint64_t{1} << kCountBits) - 1;
  std::atomic<uint64_t> word_{0};
};

// The invariant, in blocks, for kBlocks:
//
//   carved = |free| + out + in holes     and     0 <= |remote| <= out <= carved <= capacity
//
// out (level) counts the blocks that were handed to a heap and have not come back to `free`: the
// live ones, those in heaps' lists, and those in `remote` that nobody took yet. A slab with out ==
// |remote| holds no block that anyone could free: whoever has its thread's lock may release it.
// A block is in holes if part of it was given back to the system (heap/holes.h); it is on no list.
//
// Who writes: `owner` the owning thread, without a lock; `lock` whoever holds the lock of
// heap->thread; `const` whoever made the slab, until it is released; `any` any thread.
struct alignas(kCacheLine) Slab {
  // What a local free touches.
  std::atomic<Thread*> owner;     // lock: who frees without a lock; nullptr: nobody
  Block* free = nullptr;          // owner
  Level level;                    // owner
  std::atomic<Heap*> heap;        // lock
  char* start = nullptr;          // const
  Relaxed<uint32_t> block_size;   // const; 0 for a large block
  uint32_t capacity = 0;          // const; of a large block, hardened: bytes beyond those asked for
  std::atomic<uint32_t> carved;   // owner, with the lock
  std::atomic<uint32_t> binding;  // lock, a Binding
  union {
    uint32_t in_holes = 0;  // of blocks: owner, with the lock
    bool guarded;           // of a span, const; hardened: it ends at a closed page
  };
  // Owner, with the lock: when it last gave blocks since `sparse`; 0: never. Of a large block that
  // waits: since when.
  uint32_t used_ms = 0;
  // What others touch.
  alignas(kCacheLine) RemoteList remote;  // any
  Slab* next =
      nullptr;  // lock: in the heap's list of available slabs; also free lists of descriptors
  Slab* previous = nullptr;   // lock
  std::atomic<size_t> bytes;  // lock: committed bytes of a slab; usable bytes of a large block
  // const: a span's mapping. Of blocks, lock: since when (ms) the pages behind those committed may
  // be resident, from what was there before; 0: they are not.
  Relaxed<size_t> mapped = 0;
  union {
    Slab* next_woken = nullptr;  // of blocks: who set `woken`, until its thread looks
    Backend* from;               // const: what gave a span's mapping
  };
  uint64_t holes = 0;  // of blocks, owner, with the lock: a bit for each granule
  uint32_t slots = 0;  // const: of a slab or run; 0 for a span
  union {
    // Of blocks, lock: not in the list of available slabs, as too little of it is free.
    std::atomic<bool> parked = false;
    std::atomic<bool> waits;  // of a large block that was freed, any: closed, with its pages
  };
  std::atomic<bool> woken;  // any: it is in a thread's list of slabs to look at
  union {
    bool kept;        // of blocks, lock: in the heap's list of empty slabs
    Nothing nothing;  // of a large block, who holds it
  };
  union {
    bool sparse;   // of blocks: owner, with the lock: it was noted as such
    bool sampled;  // of a large block: who holds it
  };

  Binding what() const { return Binding::unpack(binding.load(std::memory_order_relaxed)); }
  bool is_nothing() const { return nothing != Nothing::kNo; }
  bool is_blocks() const { return what().kind == SlabKind::kBlocks; }
  bool all_back() const { return level.out() == remote.count(); }
  // Owner. Blocks on `free`.
  uint32_t free_count() const {
    return carved.load(std::memory_order_relaxed) - level.out() - in_holes;
  }
  // p lies in the slab.
  uint32_t index_of(const void* p) const {
    return static_cast<uint32_t>(static_cast<const char*>(p) - start) / block_size;
  }
  char* block_at(uint32_t index) const { return start + size_t{index} * block_size; }
  // p, which lies in the slab's slots, is where a block starts that was handed out at least once.
  bool is_block(const void* p) const {
    // Whoever asks about a pointer that is not his may see the slab become something else.
    uint32_t size = block_size;
    if (size == 0 || p < start) return false;
    size_t offset = static_cast<size_t>(static_cast<const char*>(p) - start);
    return offset < size_t{carved.load(std::memory_order_relaxed)} * size &&
           kMultiples[what().size_class].contain(static_cast<uint32_t>(offset));
  }
  // Owner, and no block is out. Small blocks that came back in any order would scatter what is
  // allocated together. (Who allocates and frees in turn leaves a list in order, which is at hand
  // as it is.)
  bool is_scattered() const {
    constexpr uint32_t kSmall = 512;
    constexpr int kLookAt = 6;
    if (block_size > kSmall) return false;
    if (remote.count() != 0 || free == nullptr) return true;
    auto behind = [](const Block* block) {
      Block* link;
      if constexpr (!kHardened) return block->next();
      block->read_next(&link);  // a link that was written to leads somewhere
      return link;
    };
    // Hardened, neighbours are mixed: they lie no further from each other than that.
    const size_t far = 2 * hardened::kMixed * size_t{block_size};
    const size_t first = address(behind(free)) - address(free);
    auto is_in_order = [far, first](size_t step) {
      return kHardened ? step + far <= 2 * far : step == first;
    };
    if (kHardened ? !is_in_order(first) : first != block_size && first != -size_t{block_size}) {
      return true;
    }
    const Block* block = free;
    for (int i = 0; i < kLookAt && is_block(behind(block)); ++i, block = behind(block)) {
      if (!is_in_order(address(behind(block)) - address(block))) return true;
    }
    return false;
  }
  // Blocks out at which a parked slab is worth allocating from again.
  uint32_t wake_level() const {
    uint32_t free_ones = capacity >> kWakeShift;
    constexpr uint32_t kLeast = kHardened ? 2 : 1;  // hardened: one of which stays
    return capacity - (free_ones < kLeast ? kLeast : free_ones);
  }
};

static_assert(sizeof(Slab) == 2 * kCacheLine);
static_assert(offsetof(Slab, remote) == kCacheLine,
              "the owner's line holds nothing that others write");

}  // namespace tally::core
