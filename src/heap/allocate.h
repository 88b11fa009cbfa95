// Allocation. The fast path is allocate_from; what it calls, and when:
//
// clang-format off
//   allocate(n)                      malloc, operator new
//     allocate_from(tls.heap, n)     pops heap->classes[class of n].list and counts: 14 instructions to 128 bytes
//     allocate_slow(n)               the list is empty, n > kSmallMax, n = 0, or the first call
//       known_heap(thread, caller)   heap/callers.h: by module, which leaves tls.heap without lists
//       serve(request)
//         RunningThread              heap/thread.h: makes the thread and its heap known
//         refill(heap, class)        heap/slab_ops.h: from a slab of the heap, an orphan's, or a new one
//         allocate_large(tag, n)     heap/large.h: n > kMediumMax
//         Relief                     heap/relief.h: when a limit or the system refused
// clang-format on
#pragma once

#include <cstddef>

#include "base/check.h"
#include "heap/heap.h"

namespace tally::core {

// `caller`: a return address in the code that called malloc or the like; for TALLY_TAG_BY=module.

// nullptr with errno ENOMEM. Any size; 0 is served as 1. The caller is who called the function that
// this one is called from in tail position: nothing is handed over on the fast path.
void* allocate_slow(size_t n) noexcept;
// The whole of allocate for a caller that is known.
void* allocate_for(const void* caller, size_t n) noexcept;
// As allocate_slow under a tag. nullptr with EINVAL if it has been retired.
void* allocate_tagged(Tag* tag, size_t n);
// As allocate_slow under the tag of a block that the caller holds: retired or not, it goes on, and
// whether it is to fail is for the caller to ask. nullptr is no failure if that is optional.
void* allocate_beside(Tag* tag, size_t n, bool is_optional);
// As resize_large, to more bytes; with all that a limit does. `refused` tells that one does, with
// ENOMEM: a second block would not fit either.
void* grow_large(Slab* slab, size_t n, bool* refused);
// As allocate_tagged, aligned to a power of two. `tag` nullptr: the one in force.
void* allocate_aligned(Tag* tag, size_t alignment, size_t n, const void* caller);
// As allocate_tagged, zeroed. `tag` likewise.
void* allocate_zeroed(Tag* tag, size_t n, const void* caller);

// A block from the heap's list; nullptr if the slow path must decide. From a list in the order in
// which blocks came back the next one is seldom in the cache, and there is time to fetch it: a
// tenth of the time of random replacement. The smallest blocks share cache lines, and go without.
inline void* allocate_from(Heap* heap, size_t n) {
  size_t last = n - 1;
  if (TALLY_LIKELY(last < kLinearMax - kSealBytes)) {
    constexpr size_t kStep = sizeof(Heap::Class) / kMinAlignment;
    return heap->pop<kStep, false>((last + kSealBytes) & ~(kMinAlignment - 1), n);
  }
  if (TALLY_LIKELY(last < kSmallMax - kSealBytes)) {
    constexpr size_t kStep = sizeof(Heap::Class) / kClassTableUnit;
    return heap->pop<kStep, true>(kClassTable[(last + kSealBytes) / kTableStep], n);
  }
  return nullptr;
}

inline void* allocate(size_t n) {
  void* block = allocate_from(tls.heap, n);
  if (TALLY_UNLIKELY(block == nullptr)) return allocate_slow(n);
  return block;
}

}  // namespace tally::core
