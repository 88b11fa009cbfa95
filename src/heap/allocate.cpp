#include "heap/allocate.h"

#include <errno.h>
#include <string.h>

#include "base/math.h"
#include "heap/large.h"
#include "heap/purge.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "os/os.h"

namespace tally::core {
namespace {

void* out_of_memory() {
  errno = ENOMEM;
  return nullptr;
}

// The heap to serve from, by the running thread, for this tag or the one in force. nullptr, and
// errno: no memory, or the tag was retired since the caller looked.
Heap* heap_for(const RunningThread& running, Tag* tag) {
  if (running.get() == nullptr) return static_cast<Heap*>(out_of_memory());
  auto find = [&] { return tag == nullptr ? running.current_heap() : running.heap_if_live(tag); };
  Heap* heap = find();
  if (heap != nullptr) return heap;
  bool retired = tag != nullptr && !tag->is_live();
  if (!retired && make_room()) heap = find();
  if (heap == nullptr) errno = retired ? EINVAL : ENOMEM;
  return heap;
}

void* allocate_large_in(Heap* heap, size_t alignment, size_t n, bool* zeroed) {
  Tag* tag = heap->tag.load(std::memory_order_relaxed);
  void* block = allocate_large(tag, n, alignment, zeroed);
  return block != nullptr ? block : out_of_memory();
}

// The smallest class whose blocks are long enough and so aligned; kClasses if there is none.
unsigned aligned_class(size_t alignment, size_t n) {
  if (alignment > os::page_size() || n > kMediumMax) return kClasses;
  unsigned c = class_of(max_of(n, 1));
  while (c < kClasses && class_alignment(c) < alignment) ++c;
  return c;
}

// The running thread has nothing to see to before it goes on with its heap.
bool is_current(const Heap* heap) {
  const Tag* tag = heap->tag.load(std::memory_order_relaxed);
  return tag != nullptr && tag->is_live() && is_up_to_date(tls.thread);
}

void* pop(Heap* heap, unsigned c, size_t requested) {
  if (heap->classes[c].list == nullptr && !refill(heap, c)) {
    // What is kept for later may be what is missing.
    if (!make_room() || !refill(heap, c)) return out_of_memory();
  }
  return heap->pop<sizeof(Heap::Class) / kClassTableUnit, false>(c * kClassTableUnit, requested);
}

}  // namespace

void* allocate_in(Heap* heap, size_t n) {
  if (TALLY_LIKELY(n <= kMediumMax)) return pop(heap, class_of(max_of(n, 1)), n);
  bool zeroed;
  return allocate_large_in(heap, kMinAlignment, n, &zeroed);
}

TALLY_NOINLINE void* allocate_slow(size_t n) noexcept {
  // Medium blocks come here each time.
  Heap* known = tls.heap;
  if (n - 1 < kMediumMax && (known->classes[class_of(n)].list != nullptr || is_current(known))) {
    return pop(known, class_of(n), n);
  }
  RunningThread running;
  Heap* heap = heap_for(running, nullptr);
  return heap != nullptr ? allocate_in(heap, n) : nullptr;
}

void* allocate_tagged(Tag* tag, size_t n) {
  RunningThread running;
  Heap* heap = heap_for(running, tag);
  if (heap == nullptr) return nullptr;
  void* block = allocate_from(heap, n);
  return block != nullptr ? block : allocate_in(heap, n);
}

void* allocate_beside(Tag* tag, size_t n) {
  RunningThread running;
  Heap* heap = running.get() == nullptr ? nullptr : running.heap_of_block(tag);
  return heap != nullptr ? allocate_in(heap, n) : out_of_memory();
}

void* allocate_aligned(Tag* tag, size_t alignment, size_t n) {
  unsigned c = aligned_class(alignment, n);
  if (tag == nullptr && c < kClasses && tls.heap->classes[c].list != nullptr) {
    return pop(tls.heap, c, n);
  }
  RunningThread running;
  Heap* heap = heap_for(running, tag);
  if (heap == nullptr) return nullptr;
  if (c < kClasses) return pop(heap, c, n);
  bool zeroed;
  return allocate_large_in(heap, alignment, n, &zeroed);
}

void* allocate_zeroed(Tag* tag, size_t n) {
  if (n <= kMediumMax) {
    void* block = tag == nullptr ? allocate(n) : allocate_tagged(tag, n);
    return block == nullptr ? nullptr : memset(block, 0, n);
  }
  RunningThread running;
  Heap* heap = heap_for(running, tag);
  if (heap == nullptr) return nullptr;
  bool zeroed;
  void* block = allocate_large_in(heap, kMinAlignment, n, &zeroed);
  return block == nullptr || zeroed ? block : memset(block, 0, n);
}

}  // namespace tally::core
