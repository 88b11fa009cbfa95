#include "heap/free.h"

#include <errno.h>

#include "heap/large.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "os/libc.h"

namespace tally::core {

TALLY_NOINLINE void release_slow(void* p, Slab* slab) noexcept {
  if (p == nullptr) return;
  Binding what = slab->what();
  switch (what.kind) {
    case SlabKind::kBlocks: {
      if (!slab->is_block(p)) return misuse_interior(Use::kFree, p, slab);
      Heap* known = tls.thread->find_heap(what.tag);
      if (TALLY_LIKELY(known != nullptr && known->tag.load(std::memory_order_relaxed)->is_live())) {
        return free_remote(known, slab, static_cast<Block*>(p));
      }
      RunningThread running;
      Heap* heap = running.get() == nullptr ? nullptr : running.heap_if_live(find_tag(what.tag));
      return free_remote(heap, slab, static_cast<Block*>(p));
    }
    case SlabKind::kRun:
    case SlabKind::kSpan:
      if (p != slab->start) return misuse_interior(Use::kFree, p, slab);
      return free_large(slab);
    case SlabKind::kFree:
      if (slab != address_map.none()) return misuse_double_free(p, slab);
      // Foreign code: errno is free's to keep.
      int error = errno;
      if (os::libc_owns(p)) {
        os::libc_free(p);
      } else {
        misuse_foreign(Use::kFree, p);
      }
      errno = error;
  }
}

Slab* find_block(const void* p) {
  Slab* slab = address_map.find(p);
  switch (slab->what().kind) {
    case SlabKind::kBlocks:
      return slab->is_block(p) ? slab : nullptr;
    case SlabKind::kRun:
    case SlabKind::kSpan:
      return p == slab->start ? slab : nullptr;
    case SlabKind::kFree:
      break;
  }
  return nullptr;
}

Slab* slab_of_block(const void* p, Use use) {
  Slab* slab = find_block(p);
  if (slab != nullptr) return slab;
  slab = address_map.find(p);
  if (slab->what().kind == SlabKind::kFree) {
    misuse_foreign(use, p);
  } else {
    misuse_interior(use, p, slab);
  }
  return nullptr;
}

}  // namespace tally::core
