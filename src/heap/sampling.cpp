#include "heap/sampling.h"

#include "base/preempt.h"
#include "heap/guarded.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "sample/unwind.h"

namespace tally::core {
namespace {

constexpr size_t kDepthMost = 96;

// Where heaps and large blocks begin to draw.
uint64_t new_seed() {
  static constinit std::atomic<uint64_t> seeds{1};
  uint64_t x = seeds.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed) ^ profile.seed();
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return (x ^ x >> 31) | 1;
}

// A large block was sampled.
void record(const Profile::Block& block, uint64_t drawn, Tag* tag) {
  StackFrame frames[kDepthMost];
  profile.add(block, drawn, tag, {frames, unwind(frames, kDepthMost)});
}

// From a slab of samples; nullptr: no memory, or the tag takes no new blocks.
void* take_block(Tag* tag, unsigned c, size_t n) {
  if (!make_shared_heap(sampled, tag)) return nullptr;
  LockGuard guard(sampled.lock);
  look_at_woken(&sampled);
  Heap* heap = tag->is_live() ? sampled.find_heap(tag->id) : nullptr;
  if (heap == nullptr) return nullptr;
  if (heap->classes[c].list == nullptr && !refill_locked(heap, c, true)) return nullptr;
  return heap->pop<sizeof(Heap::Class) / kClassTableUnit, false>(c * kClassTableUnit, n);
}

bool has_point(uint64_t bytes) {
  uint64_t state = new_seed();
  return blocks_before_point(next_uniform(&state), bytes, 1, profile.rate()) == 0;
}

}  // namespace

TALLY_NOINLINE void* allocate_sample(Heap* heap, unsigned c, size_t n, size_t alignment) {
  Heap::Sampling& sampling = heap->sampling;
  uint64_t bit = uint64_t{1} << c;
  if ((sampling.due & bit) == 0) {
    if (sampling.random == 0) sampling.random = new_seed();
    sampling.uniform = next_uniform(&sampling.random);
    if (blocks_before_point(sampling.uniform, class_size(c), 1, profile.rate()) != 0) {
      return nullptr;
    }
    sampling.uniform = 0;
  }
  sampling.due &= ~bit;
  Tag* tag = heap->tag.load(std::memory_order_relaxed);
  StackFrame frames[kDepthMost];
  const size_t depth = unwind(frames, kDepthMost);
  void* block = nullptr;
  if (guarded::is_due()) block = guarded::allocate(tag, n, alignment, frames, depth);
  if (block == nullptr) {
    block = take_block(tag, c, n);
    if (block == nullptr) {
      profile.lose();
      return nullptr;
    }
    if (kHardened && alignment > kMinAlignment) hardened::set_bytes(block, c, n);
  }
  at_point("sample: taken");
  profile.add({block, class_size(c), n}, class_size(c), tag, {frames, depth});
  return block;
}

bool is_of_samples(const Slab* slab) {
  return slab->owner.load(std::memory_order_relaxed) == &sampled;
}

// In this order. Model: tests/model/shared_model.cpp.
void free_sample(Slab* slab, Block* block) {
  profile.remove(block);
  at_point("sample: forgotten");
  free_remote(nullptr, slab, block);
}

namespace {

// If one of the last `drawn` bytes is a point, it is a sample.
void draw_large(Slab* slab, uint64_t drawn, const Profile::Block& block) {
  if (!has_point(drawn)) return;
  slab->sampled = true;
  record(block, drawn, find_tag(slab->what().tag));
}

}  // namespace

void note_large(Slab* slab, size_t n) {
  uint64_t bytes = slab->bytes.load(std::memory_order_relaxed);
  if (is_sampling()) draw_large(slab, bytes, {slab->start, bytes, n});
}

void note_resizing(Slab* slab) {
  if (slab->sampled) slab->sampled = profile.rename(slab->start, slab);
}

void note_unresized(Slab* slab) {
  if (slab->sampled) slab->sampled = profile.rename(slab, slab->start);
}

void note_resized(Slab* slab, size_t old_bytes, size_t n) {
  if (!is_sampling()) return;
  uint64_t bytes = slab->bytes.load(std::memory_order_relaxed);
  Profile::Block block = {slab->start, bytes, n};
  if (slab->sampled && profile.resize(slab, block)) return;
  slab->sampled = false;  // fewer samples are kept since, and it was not among them
  if (bytes > old_bytes) draw_large(slab, bytes - old_bytes, block);
}

void forget_large(Slab* slab) {
  if (TALLY_LIKELY(!slab->sampled)) return;
  slab->sampled = false;
  profile.remove(slab->start);
}

}  // namespace tally::core
