// Blocks of other threads' slabs, on their way back.
#include "base/preempt.h"
#include "heap/purge.h"
#include "heap/relief.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "memory/address_map.h"
#include "tag/tag.h"

namespace tally::core {
namespace {

// Sorts blocks by slab, so that each slab is pushed to once for many. While it lives it holds the
// running thread's lock, as a fork stops who holds one: the child's copies of the lists are whole.
// (Memory is copied while other threads run, page by page: without a lock the child might see a new
// head, but not yet the link.)
class Returns {
 public:
  ~Returns() {
    for (Chain& chain : chains_) push(chain);
  }
  void add(Slab* slab, Block* block) {
    Chain& chain = chains_[(address(slab) / sizeof(Slab) ^ address(slab) / kChunkBytes) % kChains];
    if (chain.slab != slab) {
      push(chain);
      chain = {slab, nullptr, block, 0};
    }
    block->next = chain.first;
    chain.first = block;
    ++chain.count;
  }

 private:
  struct Chain {
    Slab* slab;
    Block* first;
    Block* last;
    uint32_t count;
  };
  static constexpr size_t kChains = 32;

  // Model, with all of slab.cpp that wakes, parks, collects and releases:
  // tests/model/slab_model.cpp.
  static void push(const Chain& chain) {
    Slab* slab = chain.slab;
    if (slab == nullptr) return;
    // Until the push we hold blocks of the slab, and it cannot change what it is.
    uint32_t wake_level = tag_of(slab)->is_short() ? slab->capacity - 1 : slab->wake_level();
    uint32_t returned = slab->remote.push(chain.first, chain.last, chain.count);
    at_point("push: pushed");
    uint32_t out = slab->level.out();
    if (out == returned ||
        (out - returned <= wake_level && slab->parked.load(std::memory_order_seq_cst))) {
      wake(slab);
    }
  }

  LockGuard own_{tls.thread->lock};
  Chain chains_[kChains] = {};
};

}  // namespace

void free_remote(Heap* heap, Slab* slab, Block* block) {
  if (heap == nullptr) {
    block->next = nullptr;
    give_foreign(block);
    settle_limits();
    return;
  }
  unsigned c = slab->what().size_class;
  block->next = heap->store[c].returns;
  heap->store[c].returns = block;
  heap->store[c].returns_count.add(1);
  uint64_t count = heap->store[c].returns_count.get();
  // What a tag that is short of memory misses goes back at once.
  if (count * slab->block_size < kReturnBytes &&
      !heap->tag.load(std::memory_order_relaxed)->is_short()) {
    return;
  }
  heap->store[c].returns = nullptr;
  heap->store[c].returns_count.set(0);
  give_foreign(block, count);
  settle_limits();
}

void give_foreign(Block* list, uint64_t most) {
  if (list == nullptr) return;
  {
    Returns returns;
    for (; list != nullptr && most != 0; --most) {
      Block* next = list->next;
      returns.add(address_map.find(list), list);
      list = next;
    }
  }
  purge_tick();
}

}  // namespace tally::core
