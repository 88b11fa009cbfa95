#include "heap/allocate.h"

#include <errno.h>
#include <string.h>

#include <cstddef>

#include "backend/backend.h"
#include "base/math.h"
#include "heap/callers.h"
#include "heap/free.h"
#include "heap/large.h"
#include "heap/relief.h"
#include "heap/sampling.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "os/libc.h"
#include "os/os.h"

namespace tally::core {

TALLY_NOINLINE void* Heap::Class::pop_damaged(unsigned c, size_t bytes) {
  Block* block = list;
  Block* next = block->next();
  const size_t size = hardened::kClassSizes[c];
  const uint64_t canary = hardened::canary_of(block);
  if (!hardened::is_untouched(block, canary, size, true)) {
    report_free_block(block, c);
  }
  take(next, bytes);
  hardened::open(block, canary, size, bytes);
  return block;
}

namespace {

void* out_of_memory() {
  errno = ENOMEM;
  return nullptr;
}

// What is asked for. `tag` nullptr: the one in force.
struct Request {
  Tag* tag;
  size_t n;
  const void* caller = nullptr;  // of a request without a tag
  size_t alignment = kMinAlignment;
  // The caller holds a block of the tag, which may be retired, and has asked its fault.
  bool has_block = false;
  bool is_optional = false;  // the caller can do without
};

// The smallest class whose blocks are long enough and so aligned; kClasses if there is none.
unsigned aligned_class(size_t alignment, size_t n) {
  if (alignment > os::page_size() || n > kBlockMost) return kClasses;
  unsigned c = class_for(max_of(n, 1));
  while (c < kClasses && class_alignment(c) < alignment) ++c;
  return c;
}

// The running thread has nothing to see to before it goes on with its heap.
bool is_current(const Heap* heap) {
  const Tag* tag = heap->tag.load(std::memory_order_relaxed);
  return tag != nullptr && tag->is_live() && is_up_to_date(tls.thread) && !Lock::is_in_step();
}

void* pop(Heap* heap, unsigned c, size_t requested, size_t alignment = kMinAlignment) {
  if (heap->classes[c].list == nullptr) {
    if (TALLY_UNLIKELY(is_sampling())) {
      if (void* sample = allocate_sample(heap, c, requested, alignment)) return sample;
    }
    if (!refill(heap, c)) return nullptr;
  }
  void* block =
      heap->pop<sizeof(Heap::Class) / kClassTableUnit, false>(c * kClassTableUnit, requested);
  // Of a wider class, for the alignment, all that fits may be used.
  if (kHardened && alignment > kMinAlignment) hardened::set_bytes(block, c, requested);
  return block;
}

// nullptr: no memory.
Heap* heap_for(const RunningThread& running, const Request& request) {
  if (running.get() == nullptr) return nullptr;
  if (request.tag == nullptr) return running.current_heap(request.caller);
  if (request.has_block) return running.heap_of_block(request.tag);
  return running.heap_if_live(request.tag);
}

// From the heap, or the tag's memory for large blocks. nullptr: no memory.
void* allocate_in(Heap* heap, const Request& request, bool* zeroed) {
  unsigned c = aligned_class(request.alignment, request.n);
  if (kHardened && request.n == 0 && has_nothing_left()) c = kClasses;
  if (c < kClasses) return pop(heap, c, request.n, request.alignment);
  Tag* tag = heap->tag.load(std::memory_order_relaxed);
  return allocate_large(tag, request.n, request.alignment, zeroed);
}

// What the thread has at hand for the tag; nullptr: that is for serve to find.
void* at_hand(const Tag* tag, size_t n) {
  Heap* heap = tls.thread->find_heap(tag->id);
  return heap == nullptr ? nullptr : allocate_from(heap, n);
}

// Where it must not come from us. Another allocator may have taken libc's names, whose blocks our
// free would not know.
void* from_libc(size_t n, size_t alignment) {
  void* block = os::libc_aligned(max_of(alignment, alignof(max_align_t)), n);
  if (block != nullptr && !os::libc_owns(block)) {
    os::libc_free(block);
    block = nullptr;
  }
  return block != nullptr ? block : out_of_memory();
}

// The way of all requests that do not find their block at hand. nullptr, and errno.
TALLY_NOINLINE void* serve(const Request& request, bool* zeroed) {
  *zeroed = false;
  if (request.n > PTRDIFF_MAX || request.alignment > PTRDIFF_MAX / 2) return out_of_memory();
  if (TALLY_UNLIKELY(backend::is_inside())) return from_libc(request.n, request.alignment);
  if (is_by_module() && request.tag == nullptr) {
    if (must_ask(request.caller)) return nullptr;
    note_caller(request.caller, request.n);
  }
  Relief relief(request.n);
  void* block = nullptr;
  bool is_first = true;
  do {
    RunningThread running;
    Heap* heap = heap_for(running, request);
    if (heap != nullptr) {
      Tag* tag = heap->tag.load(std::memory_order_relaxed);
      bool may_strike = is_first && !request.has_block;
      if (TALLY_UNLIKELY(tag->fault() != nullptr) && may_strike &&
          tag->fault()->strikes(request.n)) {
        break;
      }
      is_first = false;
      block = allocate_in(heap, request, zeroed);
    } else if (request.tag != nullptr && !request.has_block && !request.tag->is_live()) {
      errno = EINVAL;  // retired since the caller looked
      return nullptr;
    }
  } while (TALLY_UNLIKELY(block == nullptr) && !request.is_optional && relief.help());
  if (TALLY_LIKELY(block != nullptr)) relief.note_success();
  settle_limits();
  return TALLY_LIKELY(block != nullptr) ? block : out_of_memory();
}

}  // namespace

namespace {

// Of a heap that has nothing at hand, or only medium blocks, which come here each time.
TALLY_NOINLINE void* allocate_more(Heap* known, size_t n, const void* caller) {
  if (n - 1 < kBlockMost && (known->classes[class_for(n)].list != nullptr || is_current(known))) {
    if (void* block = pop(known, class_for(n), n)) {
      settle_limits();
      return block;
    }
  }
  bool zeroed;
  return serve({.tag = nullptr, .n = n, .caller = caller}, &zeroed);
}

}  // namespace

namespace {

TALLY_NOINLINE void* allocate_in_scope(const void* caller, size_t n) {
  Heap* known = known_heap_in_scope(tls.thread, caller);
  void* block = allocate_from(known, n);
  return block != nullptr ? block : allocate_more(known, n, caller);
}

// By module each malloc comes here, and most go no further.
inline void* allocate_by_caller(const void* caller, size_t n) {
  const Thread* thread = tls.thread;
  if (TALLY_UNLIKELY(thread->depth != 0)) return allocate_in_scope(caller, n);
  Heap* known = known_heap(thread, caller);
  void* block = allocate_from(known, n);
  return TALLY_LIKELY(block != nullptr) ? block : allocate_more(known, n, caller);
}

}  // namespace

void* allocate_for(const void* caller, size_t n) noexcept {
  Heap* known = tls.heap;
  if (TALLY_UNLIKELY(known == &by_caller)) return allocate_by_caller(caller, n);
  void* block = allocate_from(known, n);
  return TALLY_LIKELY(block != nullptr) ? block : allocate_more(known, n, caller);
}

TALLY_NOINLINE void* allocate_slow(size_t n) noexcept {
  const void* caller = __builtin_return_address(0);
  Heap* known = tls.heap;
  if (TALLY_LIKELY(known != &by_caller)) return allocate_more(known, n, caller);
  return must_ask(caller) ? nullptr : allocate_by_caller(caller, n);
}

void* allocate_tagged(Tag* tag, size_t n) {
  if (TALLY_LIKELY(tag->fault() == nullptr && tag->is_live())) {
    if (void* block = at_hand(tag, n)) return block;
  }
  bool zeroed;
  return serve({.tag = tag, .n = n}, &zeroed);
}

void* allocate_beside(Tag* tag, size_t n, bool is_optional) {
  if (void* block = at_hand(tag, n)) return block;
  bool zeroed;
  return serve({.tag = tag, .n = n, .has_block = true, .is_optional = is_optional}, &zeroed);
}

void* grow_large(Slab* slab, size_t n, bool* refused) {
  Relief relief(n);
  void* block = resize_large(slab, n);
  while (block == nullptr && limits_met.refused != nullptr) {
    *refused = true;
    if (!relief.help()) return out_of_memory();
    block = resize_large(slab, n);
  }
  *refused = false;
  relief.note_success();
  return block;
}

void* allocate_aligned(Tag* tag, size_t alignment, size_t n, const void* caller) {
  unsigned c = aligned_class(alignment, n);
  if (tag == nullptr && c < kClasses) {
    Heap* known = heap_at_hand(caller);
    if (known->classes[c].list != nullptr) return pop(known, c, n, alignment);
  }
  bool zeroed;
  return serve({.tag = tag, .n = n, .caller = caller, .alignment = alignment}, &zeroed);
}

void* allocate_zeroed(Tag* tag, size_t n, const void* caller) {
  bool zeroed = false;
  void* block = tag == nullptr && n <= kBlockMost
                    ? allocate_for(caller, n)
                    : serve({.tag = tag, .n = n, .caller = caller}, &zeroed);
  if (block == nullptr || zeroed) return block;
  // All that malloc_usable_size tells of, as glibc does: some programs go on to use that. A block
  // of libc's, which is in no map, as far as was asked for.
  return memset(block, 0, max_of(n, usable_size(address_map.find(block), block)));
}

}  // namespace tally::core
