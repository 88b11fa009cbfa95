// Blocks of other threads' slabs, on their way back.
#include "base/preempt.h"
#include "heap/misuse.h"
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
    ++chain.count;
    if (kHardened && chain.first != nullptr && flip()) {
      block->link(nullptr);
      chain.last->link(block);
      chain.last = block;
      return;
    }
    block->link(chain.first);
    chain.first = block;
  }

 private:
  struct Chain {
    Slab* slab;
    Block* first;
    Block* last;
    uint32_t count;
  };
  static constexpr size_t kChains = 32;

  // Which end of its chain a block goes to is chance.
  bool flip() {
    if (coins_ <= 1) coins_ = hardened::draw() | uint64_t{1} << 63;
    bool head = (coins_ & 1) != 0;
    coins_ >>= 1;
    return head;
  }

  // Model, with all of slab.cpp that wakes, parks, collects and releases:
  // tests/model/slab_model.cpp.
  static void push(const Chain& chain) {
    Slab* slab = chain.slab;
    if (slab == nullptr) return;
    // Until the push we hold blocks of the slab, and it cannot change what it is; but whose it is.
    const Tag* tag = find_tag(slab->what().tag);
    uint32_t wake_level = tag->is_short() ? slab->capacity - 1 : slab->wake_level();
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
  uint64_t coins_ = 0;
};

}  // namespace

namespace {

// What is behind the first `count` blocks of the list.
Block* cut(Block** list, uint64_t count) {
  Block* last = nullptr;
  Block* rest = *list;
  for (; count != 0 && rest != nullptr; --count) {
    last = rest;
    rest = rest->next();
  }
  if (last == nullptr) {
    *list = nullptr;
  } else {
    last->link(nullptr);
  }
  return rest;
}

}  // namespace

void collect(Slab* slab) {
  RemoteList::Taken taken = slab->remote.take();
  if (taken.first == nullptr) return;
  if (kHardened && slab->free != nullptr) {
    // What was freed last stays in front, and is little.
    Block* last = check_list(slab->free, slab->free_count(), slab);
    if (last == nullptr) return;
    last->link(taken.first);
    taken.first = slab->free;
  } else if (slab->free != nullptr) {
    Block* last = check_list(taken.first, taken.count, slab);
    if (last == nullptr) return;
    last->link(slab->free);
  }
  slab->free = taken.first;
  slab->level.set(slab->level.out() - taken.count, 0);
}

void free_remote(Heap* heap, Slab* slab, Block* block) {
  if (heap == nullptr) {
    block->link(nullptr);
    give_foreign(block);
    settle_limits();
    return;
  }
  unsigned c = slab->what().size_class;
  Heap::Store& store = heap->store[c];
  if (TALLY_UNLIKELY(block == store.returns)) return misuse_double_free(block, slab);
  block->link(store.returns);
  store.returns = block;
  store.returns_count.add(1);
  uint64_t count = store.returns_count.get();
  // What a tag that is short of memory misses goes back at once.
  const bool is_short = heap->tag.load(std::memory_order_relaxed)->is_short();
  const bool is_little = count * slab->block_size < kReturnBytes || count < kReturnLeast;
  if (is_little && !is_short) return;
  uint64_t stay = kHardened && !is_short ? count / 2 : 0;
  Block* going = cut(&store.returns, stay);
  store.returns_count.set(stay);
  give_foreign(going, count - stay);
  settle_limits();
}

void give_foreign(Block* list, uint64_t most) {
  if (list == nullptr) return;
  {
    Returns returns;
    for (; list != nullptr && most != 0; --most) {
      Block* next = list->next();
      returns.add(address_map.find(list), list);
      list = next;
    }
  }
  purge_tick();
}

}  // namespace tally::core
