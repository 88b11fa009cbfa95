#include "heap/guarded.h"

#include <string.h>

#include "base/counter.h"
#include "base/math.h"
#include "base/options.h"
#include "base/preempt.h"
#include "heap/misuse.h"
#include "heap/purge.h"
#include "heap/relief.h"
#include "memory/address_map.h"
#include "memory/chunk.h"
#include "memory/meta.h"
#include "os/os.h"
#include "sample/profile.h"

namespace tally::core::guarded {

constinit Lock lock;

namespace {

constexpr size_t kStride = 2 * kSlotBytes;
constexpr size_t kPoolBytes = kPlaces * kStride + kSlotBytes;
constexpr unsigned char kFill = 0xa7;
// Most mistakes are at a block's end; of so many one lies so that those before it show.
constexpr uint32_t kAtStart = 4;

constinit uint32_t g_every = 0;
constinit std::atomic<uint32_t> g_samples{0};
// The first guard, before the first place.
constinit Relaxed<char*> g_start = nullptr;
constinit std::atomic<Place*> g_places[kPlaces] = {};
constinit std::atomic<size_t> g_slack{0};
// Under `lock`.
constinit unsigned g_made = 0;
constinit unsigned g_live = 0;
constinit uint32_t g_taken = 0;
constinit Place* g_oldest = nullptr;  // freed, linked by `next`
constinit Place* g_newest = nullptr;

// ---- Where places are.

char* area_of(unsigned index) { return g_start + kSlotBytes + index * kStride; }
// kPlaces: the address is none of theirs.
unsigned index_at(uintptr_t p) {
  const size_t offset = p - address(g_start);
  if (g_start == nullptr || offset >= kPoolBytes) return kPlaces;
  return offset < kSlotBytes ? 0 : static_cast<unsigned>((offset - kSlotBytes) / kStride);
}
unsigned index_of(const Place* place) { return index_at(address(place->slab.start)); }

size_t bytes_of(const Place* place) { return place->slab.bytes.load(std::memory_order_relaxed); }
size_t page_bytes_of(const Place* place) { return round_up(bytes_of(place), os::page_size()); }
char* pages_of(const Place* place) {
  return area_of(index_of(place)) + kSlotBytes - page_bytes_of(place);
}

// ---- The list of those that are free.

// Lock held. nullptr: there is no memory.
Place* make_place() {
  auto* place = static_cast<Place*>(meta::allocate_forever(sizeof(Place)));
  if (place == nullptr) return nullptr;
  char* area = area_of(g_made);
  LockGuard guard(central);
  if (!address_map.prepare(area, kStride)) return nullptr;
  place->slab.start = area + kSlotBytes;
  place->slab.block_size = 0;
  address_map.set(area, &place->slab);
  address_map.set(area + kSlotBytes, &place->slab);
  g_places[g_made++].store(place, std::memory_order_release);
  return place;
}

// `at_start`: its block is to lie at the start of a page.
Place* take_place(bool* at_start) {
  LockGuard guard(lock);
  if (g_start == nullptr || g_live == kLiveMost) return nullptr;
  Place* place = g_made < kPlaces ? make_place() : nullptr;
  if (place == nullptr && (place = g_oldest) != nullptr) {
    g_oldest = place->next;
    if (g_oldest == nullptr) g_newest = nullptr;
  }
  if (place == nullptr) return nullptr;
  ++g_live;
  *at_start = ++g_taken % kAtStart == 0;
  return place;
}

void give_place(Place* place) {
  LockGuard guard(lock);
  place->next = nullptr;
  (g_newest == nullptr ? g_oldest : g_newest->next) = place;
  g_newest = place;
  --g_live;
}

// ---- A block's life.

void keep(Event* event, const StackFrame* frames, size_t depth) {
  event->depth = static_cast<uint32_t>(min_of(depth, Event::kDepthMost));
  memcpy(event->frames, frames, event->depth * sizeof *frames);
  event->thread.store(os::thread_id(), std::memory_order_release);
}

// What is left of the pages on either side of the block.
struct Rest {
  char* start;
  size_t bytes;

  bool is_whole() const {
    if (bytes == 0) return true;
    return static_cast<unsigned char>(*start) == kFill && memcmp(start, start + 1, bytes - 1) == 0;
  }
};
Rest before(const Place* place) {
  char* pages = pages_of(place);
  return {pages, static_cast<size_t>(place->slab.start - pages)};
}
Rest behind(const Place* place) {
  char* end = place->slab.start + bytes_of(place);
  return {end, static_cast<size_t>(pages_of(place) + page_bytes_of(place) - end)};
}

void look_for_damage(Place* place) {
  const Rest behind_it = behind(place), before_it = before(place);
  auto is_damaged = [](const char* at) { return static_cast<unsigned char>(*at) != kFill; };
  const char* found = nullptr;
  if (!behind_it.is_whole()) {
    for (found = behind_it.start; !is_damaged(found);) ++found;
  } else if (!before_it.is_whole()) {
    for (found = before_it.start + before_it.bytes - 1; !is_damaged(found);) --found;
  }
  if (found != nullptr)
    misuse_damage("its free", found, before_it.start + before_it.bytes, behind_it.start,
                  &place->slab);
}

}  // namespace

bool start(uint32_t every) {
  auto* space = static_cast<char*>(meta::map(kPoolBytes + kSlotBytes));
  if (space == nullptr) return false;
  if (!os::forbid(space, kPoolBytes + kSlotBytes)) {
    meta::unmap(space, kPoolBytes + kSlotBytes);
    return false;
  }
  g_every = every;
  // So that of many programs that take few samples each some guard one.
  g_samples.store(static_cast<uint32_t>(profile.seed()) % every, std::memory_order_relaxed);
  g_start = reinterpret_cast<char*>(round_up(address(space), kSlotBytes));
  return true;
}

bool is_due() {
  if (g_every == 0) return false;
  return g_samples.fetch_add(1, std::memory_order_relaxed) % g_every == 0;
}

void* allocate(Tag* tag, size_t asked, size_t alignment, const StackFrame* frames, size_t depth) {
  const size_t n = max_of(asked, 1);
  const size_t pages = round_up(n, os::page_size());
  bool at_start;
  Place* place = take_place(&at_start);
  if (place == nullptr) return nullptr;
  const unsigned index = index_of(place);
  char* end = area_of(index) + kSlotBytes;
  if (place->is_open.exchange(false, std::memory_order_relaxed)) {
    os::forbid(area_of(index), kStride);
  }
  if (!tag->charge(pages)) {
    limits_met.refused = nullptr;  // a plain sample needs less
    give_place(place);
    return nullptr;
  }
  if (!os::allow(end - pages, pages)) {
    tag->uncharge(pages);
    give_place(place);
    return nullptr;
  }
  at_point("place: allowed");
  place->slab.start = at_start ? end - pages : end - round_up(n, max_of(alignment, kMinAlignment));
  place->slab.bytes.store(n, std::memory_order_relaxed);
  for (const Rest& rest : {before(place), behind(place)}) memset(rest.start, kFill, rest.bytes);
  place->is_reported.store(false, std::memory_order_relaxed);
  const size_t length = min_of(tag->name_length, Place::kTagBytes - 1);
  memcpy(place->tag, tag->name, length);
  place->tag[length] = 0;
  keep(&place->allocated, frames, depth);
  place->freed.thread.store(0, std::memory_order_relaxed);
  tag->add_large(n, asked);
  g_slack.fetch_add(pages - n, std::memory_order_relaxed);
  Binding what = {SlabKind::kGuarded, 0, static_cast<uint16_t>(tag->id)};
  place->slab.binding.store(what.pack(), std::memory_order_release);
  return place->slab.start;
}

// Model: tests/model/shared_model.cpp.
void free_block(Slab* slab) {
  Place* place = place_of(slab);
  uint32_t word = slab->binding.load(std::memory_order_relaxed);
  Binding what = Binding::unpack(word);
  if (what.kind != SlabKind::kGuarded) return misuse_double_free(slab->start, slab);
  Tag* tag = find_tag(what.tag);
  // The tag stays, for the message if the block is freed again.
  what.kind = SlabKind::kFree;
  if (!slab->binding.compare_exchange_strong(word, what.pack(), std::memory_order_acq_rel)) {
    return misuse_double_free(slab->start, slab);
  }
  at_point("place: freed");
  profile.remove(slab->start);
  look_for_damage(place);
  StackFrame frames[Event::kDepthMost];
  keep(&place->freed, frames, unwind(frames, Event::kDepthMost));
  const size_t n = bytes_of(place), pages = page_bytes_of(place);
  if (!os::forbid(pages_of(place), pages)) os::purge(pages_of(place), pages);
  g_slack.fetch_sub(pages - n, std::memory_order_relaxed);
  tag->remove_large(n);
  tag->uncharge(pages);
  give_place(place);
  purge_tick();
  settle_limits();
}

size_t slack_bytes() { return g_slack.load(std::memory_order_relaxed); }

Pool pool() { return {g_start, g_start == nullptr ? 0 : kPoolBytes}; }

Place* place_of(const Slab* slab) {
  const unsigned index = index_at(address(slab->start));
  if (index == kPlaces) return nullptr;
  Place* place = g_places[index].load(std::memory_order_acquire);
  return place != nullptr && &place->slab == slab ? place : nullptr;
}

Place* nearest_to(uintptr_t p) {
  const unsigned index = index_at(p);
  Place* nearest = nullptr;
  uintptr_t nearest_by = UINTPTR_MAX;
  for (unsigned i = index; i < min_of(index + 2, kPlaces); ++i) {
    Place* place = g_places[i].load(std::memory_order_acquire);
    if (place == nullptr || place->allocated.thread.load(std::memory_order_acquire) == 0) continue;
    const uintptr_t start = address(place->slab.start), end = start + bytes_of(place);
    const uintptr_t by = p < start ? start - p : p >= end ? p - end + 1 : 0;
    if (by >= nearest_by) continue;
    nearest = place;
    nearest_by = by;
  }
  return nearest;
}

bool let_through(uintptr_t p) {
  const size_t page = os::page_size();
  if (Place* place = g_places[index_at(p)].load(std::memory_order_acquire)) {
    place->is_open.store(true, std::memory_order_relaxed);
  }
  return os::allow(reinterpret_cast<void*>(p & ~(page - 1)), page);
}

}  // namespace tally::core::guarded
