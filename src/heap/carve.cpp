#include "heap/carve.h"

#include "base/math.h"
#include "heap/holes.h"
#include "heap/thread.h"
#include "os/os.h"

namespace tally::core {
namespace {

// Memory for the slab's first `end` blocks. False: a limit refuses.
bool commit(Heap* heap, Slab* slab, uint32_t end) {
  size_t have = slab->bytes.load(std::memory_order_relaxed);
  // There is no hole.
  size_t need = round_up(size_t{end} * slab->block_size, os::page_size());
  if (need <= have) return true;
  if (!heap->tag.load(std::memory_order_relaxed)->charge(need - have)) return false;
  slab->bytes.store(need, std::memory_order_relaxed);
  return true;
}

// The slab's blocks from `begin` to `end`, a batch at most, in a list before `next`. Hardened, they
// become free ones if they are new; else those that are left out, by bits, lie elsewhere, and of
// the others it is looked at what they had for a link.
Block* link_blocks(Slab* slab, uint32_t begin, uint32_t end, Block* next,
                   const uint64_t* left_out = nullptr) {
  hardened::Order<kBatchBytes / kMinAlignment> order(end - begin);
  for (uint32_t i = end; i-- > begin;) {
    const uint32_t index = begin + order.of(i - begin);
    auto* block = reinterpret_cast<Block*>(slab->block_at(index));
    if constexpr (kHardened) {
      Block* link;
      if (left_out != nullptr && (left_out[index / 64] >> index % 64 & 1) != 0) continue;
      const bool is_damaged = left_out != nullptr && !block->read_next(&link);
      if (is_damaged) hardened::report_link(block);
      if (is_damaged || left_out == nullptr) hardened::close(block, slab->block_size, false);
    }
    block->link(next);
    next = block;
  }
  return next;
}

}  // namespace

void carve(Heap* heap, Slab* slab, Block* last) {
  uint32_t carved = slab->carved.load(std::memory_order_relaxed);
  size_t bytes = slab->block_size > kBatchBytes / 2 ? kLongBatchBytes : kBatchBytes;
  // Of samples there may be no other of this size for long.
  if (heap->thread.load(std::memory_order_relaxed) == &sampled) bytes = 0;
  uint32_t batch = static_cast<uint32_t>(max_of(bytes / slab->block_size, 1));
  uint32_t end = static_cast<uint32_t>(min_of(carved + batch, slab->capacity));
  if (!commit(heap, slab, end)) {
    size_t least = round_up(size_t{carved + 1} * slab->block_size, os::page_size());
    end = static_cast<uint32_t>(min_of(least / slab->block_size, end));
    if (!commit(heap, slab, end)) return;
    limits_met.refused = nullptr;
  }
  Block* list = link_blocks(slab, carved, end, nullptr);
  if (last == nullptr) {
    slab->free = list;
  } else {
    last->link(list);
  }
  slab->carved.store(end, std::memory_order_relaxed);
  if (end == slab->capacity) lose_tail(slab);
}

void link_again(Slab* slab) {
  // In front, as it is to be long before they are used again, those that were freed last.
  Block* front[kStayMost];
  uint64_t in_front[kSlotBytes / kMinAlignment / 64] = {};
  uint32_t count = 0;
  Block* next = slab->free;
  while (count < kStayMost && slab->is_block(next)) {
    const uint32_t index = slab->index_of(next);
    const uint64_t bit = uint64_t{1} << index % 64;
    Block* link;
    if ((in_front[index / 64] & bit) != 0 || !next->read_next(&link)) break;
    in_front[index / 64] |= bit;
    front[count++] = next;
    next = link;
  }
  next = nullptr;
  const auto batch = static_cast<uint32_t>(kBatchBytes / slab->block_size);
  uint32_t begin;
  for (uint32_t end = slab->carved.load(std::memory_order_relaxed); end != 0; end = begin) {
    begin = (end - 1) / batch * batch;
    next = link_blocks(slab, begin, end, next, in_front);
  }
  while (count != 0) {
    front[--count]->link(next);
    next = front[count];
  }
  slab->free = next;
}

}  // namespace tally::core
