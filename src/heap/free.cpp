#include "heap/free.h"

#include <errno.h>

#include "backend/backend.h"
#include "heap/guarded.h"
#include "heap/large.h"
#include "heap/sampling.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "memory/span.h"
#include "os/libc.h"
#include "os/os.h"

namespace tally::core {
namespace {

// A block of the slab is freed. False: it is free already, as was reported.
bool close_block(const Slab* slab, void* p) {
  if constexpr (!kHardened) return true;
  const size_t size = slab->block_size;
  if (TALLY_UNLIKELY(!check_seal(Use::kFree, p, slab))) return false;
  hardened::close(p, size, options.zero);
  return true;
}

// A backend frees within a call of ours, which may hold any lock, or a signal handler does: what
// would need one is left to others, or lost.
void release_inside(void* p, Slab* slab) {
  SlabKind kind = slab->what().kind;
  auto* block = static_cast<Block*>(p);
  if (kind == SlabKind::kBlocks && slab->is_block(p) && close_block(slab, p)) {
    slab->remote.push(block, block, 1);
  }
  if (kind == SlabKind::kFree && os::libc_owns(p)) os::libc_free(p);
}

}  // namespace

TALLY_NOINLINE void release_slow(void* p, Slab* slab) noexcept {
  if (p == nullptr) return;
  if (TALLY_UNLIKELY(backend::is_inside())) return release_inside(p, slab);
  Binding what = slab->what();
  switch (what.kind) {
    case SlabKind::kBlocks: {
      if (!slab->is_block(p)) return misuse_interior(Use::kFree, p, slab);
      if (TALLY_UNLIKELY(!close_block(slab, p))) return;
      if (kHardened && slab->owner.load(std::memory_order_relaxed) == tls.thread) {
        return push_own(slab, static_cast<Block*>(p));
      }
      if (TALLY_UNLIKELY(is_of_samples(slab))) return free_sample(slab, static_cast<Block*>(p));
      Heap* known = tls.thread->find_heap(what.tag);
      if (TALLY_LIKELY(known != nullptr && known->tag.load(std::memory_order_relaxed)->is_live())) {
        return free_remote(known, slab, static_cast<Block*>(p));
      }
      RunningThread running;
      Heap* heap = running.get() == nullptr ? nullptr : running.heap_if_live(find_tag(what.tag));
      free_remote(heap, slab, static_cast<Block*>(p));
      return;
    }
    case SlabKind::kRun:
    case SlabKind::kSpan:
      if (p != slab->start) return misuse_interior(Use::kFree, p, slab);
      return free_large(slab);
    case SlabKind::kGuarded:
      if (p != slab->start) return misuse_interior(Use::kFree, p, slab);
      return guarded::free_block(slab);
    case SlabKind::kFree:
      // Foreign code: errno is free's to keep.
      int error = errno;
      if (is_libcs(p, Use::kFree)) os::libc_free(p);
      errno = error;
  }
}

namespace {

// Of release_sealed: a long block, in a slab of this thread.
TALLY_NOINLINE void release_long(void* p, Slab* slab) {
  const size_t size = slab->block_size;
  const uint64_t canary = hardened::canary_of(p);
  if (TALLY_UNLIKELY(!hardened::is_sound(p, canary, size, p == slab->start))) {
    return release_slow(p, slab);
  }
  hardened::close(p, canary, size, options.zero);
  push_own(slab, static_cast<Block*>(p));
}

}  // namespace

void release_sealed(void* p, Slab* slab) noexcept {
  if constexpr (!kHardened) return;
  // Where the seal of any pointer would be can be read, if that is not behind the last block.
  const size_t size = slab->block_size;
  const size_t offset = address(p) - address(slab->start);
  if (TALLY_UNLIKELY(slab->owner.load(std::memory_order_relaxed) != tls.thread ||
                     offset > (slab->capacity - 1) * size)) {
    return release_slow(p, slab);
  }
  if (size > hardened::kWipedInline) return release_long(p, slab);
  const uint64_t canary = hardened::canary_of(p);
  if (TALLY_UNLIKELY(!hardened::is_sound<true>(p, canary, size, offset == 0))) {
    return release_slow(p, slab);
  }
  hardened::close(p, canary, size, false);
  push_own(slab, static_cast<Block*>(p));
}

void set_usable_size(const Slab* slab, void* p, size_t n) {
  if constexpr (!kHardened) return;
  if (check_seal(Use::kRealloc, p, slab)) hardened::set_bytes(p, slab->what().size_class, n);
}

namespace {

// Of a block that was handed out once: it is known to be free. By default, of what this thread
// freed last.
bool is_free(const Slab* slab, const void* p) {
  if constexpr (!kHardened) {
    return slab->owner.load(std::memory_order_relaxed) == tls.thread && p == slab->free;
  }
  return hardened::look_at_seal(p, slab->block_size).state == hardened::State::kFree;
}

}  // namespace

Slab* find_block(const void* p) {
  Slab* slab = address_map.find(p);
  switch (slab->what().kind) {
    case SlabKind::kBlocks:
      return slab->is_block(p) && !is_free(slab, p) ? slab : nullptr;
    case SlabKind::kRun:
    case SlabKind::kSpan:
    case SlabKind::kGuarded:
      return p == slab->start ? slab : nullptr;
    case SlabKind::kFree:
      break;
  }
  return nullptr;
}

namespace {

// Whether a block that was allocated with n bytes would be as p is.
bool fits_exactly(const Slab* slab, size_t usable, size_t n, size_t alignment) {
  if (slab->block_size == 0) {
    const bool is_guarded = slab->what().kind == SlabKind::kGuarded;
    if (kHardened && !is_guarded) return usable == n;
    if (is_guarded) n = max_of(n, 1);  // of none it has one
    return usable == n || round_up(max_of(n, 1), os::page_size()) == block_bytes(slab);
  }
  const unsigned c = slab->what().size_class;
  // A wider class is one for the alignment.
  const bool is_wider = alignment > kMinAlignment && class_for(max_of(n, 1)) != c;
  if constexpr (kHardened) return usable == (is_wider ? class_size(c) - kSealBytes : n);
  return is_wider || class_for(max_of(n, 1)) == c;
}

}  // namespace

void check_sized(const void* p, size_t n, size_t alignment, bool exact) {
  if constexpr (!kChecksSizes) return;
  const Slab* slab = p == nullptr ? nullptr : find_block(p);
  if (slab == nullptr) return;  // free will tell
  const size_t usable = usable_size(slab, p);
  if ((address(p) & (alignment - 1)) != 0) {
    misuse_alignment(p, alignment, slab);
  } else if (n > usable || (exact && !fits_exactly(slab, usable, n, alignment))) {
    misuse_size(p, n, usable, slab);
  }
}

bool is_libcs(const void* p, Use use) {
  const Slab* slab = address_map.find(p);
  if (slab->is_blocks() && slab->is_block(p)) {
    misuse_freed(use, p, slab);
  } else if (slab->what().kind != SlabKind::kFree) {
    misuse_interior(use, p, slab);
  } else if (slab != address_map.none()) {
    misuse_freed(use, p, slab);
  } else if (backend::is_inside()) {  // no lock may be taken, and what is given out there is libc's
    if (os::libc_owns(p)) return true;
    misuse_foreign(use, p);
  } else if (const Slab* span = find_span(p)) {
    // Of a span the map knows the start alone.
    misuse_interior(use, p, span);
  } else if (os::libc_owns(p)) {
    return true;
  } else {
    misuse_foreign(use, p);
  }
  return false;
}

}  // namespace tally::core
