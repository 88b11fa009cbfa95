// Giving blocks back. What calls what, and when:
//
// clang-format off
//   release_block(p)                   free, operator delete
//     address_map.find(p)              the descriptor of whatever lies at p; nobody's for foreign p
//     push on slab->free, count down   the slab is this thread's: 20 instructions
//       on_level(slab)                 heap/slab_ops.h: at its floor: make available, or release
//       misuse_double_free(p, slab)    it lies there already, as the last one that was freed
//     release_slow(p, slab)            another thread's, a large block, nullptr, or a mistake
//       free_remote(heap, slab, block) heap/slab_ops.h: collected, to go back with others
//       free_large(slab)               heap/large.h
// clang-format on
#pragma once

#include <cstddef>

#include "base/check.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "memory/address_map.h"

namespace tally::core {

void release_slow(void* p, Slab* slab) noexcept;
// Hardened: what release_block does with all that is not.
void release_sealed(void* p, Slab* slab) noexcept;
void on_level(Slab* slab) noexcept;

// A block comes back to its slab, which is this thread's.
inline void push_own(Slab* slab, Block* block) {
  // One comparison with what is at hand anyway; other double frees show later. The hardened build
  // has looked at the block's seal.
  Block* last = slab->free;
  if constexpr (!kHardened) {
    if (TALLY_UNLIKELY(block == last)) return misuse_double_free(block, slab);
  }
  block->link(last);
  slab->free = block;
  if (TALLY_UNLIKELY(slab->level.count_down())) on_level(slab);
}

inline void release_block(void* p) {
  Slab* slab = address_map.find(p);
  if constexpr (kHardened) return release_sealed(p, slab);
  if (TALLY_UNLIKELY(slab->owner.load(std::memory_order_relaxed) != tls.thread)) {
    return release_slow(p, slab);
  }
  push_own(slab, static_cast<Block*>(p));
}

// A program gives p back and says what it is: of n bytes, aligned so. Reported if it is not.
// `exact`: n is what was asked for, and not less. In builds with kChecksSizes; p is freed after
// that.
inline constexpr bool kChecksSizes = kHardened || kChecks;
void check_sized(const void* p, size_t n, size_t alignment, bool exact);

// The slab or large block of which p is a live block, or nullptr.
Slab* find_block(const void* p);
// For a p that find_block does not know and that is not nullptr: true if the C library allocated it
// (before we were loaded, or past us), and is to serve the call. Else the mistake is reported.
bool is_libcs(const void* p, Use use);

// Bytes that a block of this slab takes.
inline size_t block_bytes(const Slab* slab) {
  uint32_t size = slab->block_size;
  return size != 0 ? size : slab->bytes.load(std::memory_order_relaxed);
}
// Bytes that may be used in p, which is one.
inline size_t usable_size(const Slab* slab, const void* p) {
  if (!kHardened) return block_bytes(slab);
  if (slab->block_size == 0) return block_bytes(slab) - slab->capacity;
  hardened::Seal seal = hardened::look_at_seal(p, slab->block_size);
  return seal.state == hardened::State::kLive ? seal.bytes : slab->block_size - kSealBytes;
}
// p, which is one, stays where it is and has n bytes from now on, which fit.
void set_usable_size(const Slab* slab, void* p, size_t n);

}  // namespace tally::core
