#include "heap/large.h"

#include <stdint.h>
#include <string.h>

#include "backend/backend.h"
#include "base/math.h"
#include "base/options.h"
#include "base/preempt.h"
#include "heap/misuse.h"
#include "heap/purge.h"
#include "heap/relief.h"
#include "heap/sampling.h"
#include "memory/chunk.h"
#include "memory/guard.h"
#include "memory/span.h"
#include "os/os.h"

namespace tally::core {
namespace {

unsigned slots_for(size_t bytes) {
  return static_cast<unsigned>(divide_up(bytes + guard::bytes(), kSlotBytes));
}

void give(Slab* slab, Closing closing) {
  slab->slots != 0 ? give_run(slab, closing) : give_span(slab, closing);
}

Slab* take(size_t bytes, size_t alignment, bool is_open, bool* zeroed) {
  const bool is_run = bytes <= kRunMax && alignment <= kRunMax;
  Slab* slab = is_run ? take_run(slots_for(bytes), alignment, false, zeroed)
                      : take_span(bytes, alignment, zeroed);
  if (slab == nullptr) return slab;
  const size_t open = is_open ? bytes : 0;
  // Hardened, it is one of several calls.
  constexpr size_t kMostBehind = kHardened ? kSlotBytes / 2 : SIZE_MAX;
  // What is behind no bytes is all of it.
  if (is_run && !*zeroed && drop_pages_behind(slab, open, kMostBehind)) *zeroed = open == 0;
  if (!kHardened) return slab;
  if (is_run && !open_run(slab, open)) {
    give_run(slab);
    return nullptr;
  }
  if (is_open && !*zeroed) {
    memset(slab->start, 0, options.zero ? bytes : min_of(bytes, hardened::kWipedMost));
    *zeroed = options.zero;
  }
  return slab;
}

// What was freed last stays closed, and its addresses are nobody's: whoever uses it still is ended
// by that. Hardened, so many blocks, and so many bytes, by chance. By default one, if it is twice
// as large as any was before: a program that goes on replacing such blocks finds their memory
// resident. (glibc too unmaps a block that is larger than what it unmapped before, unless its heap
// had room for it: hardly a program runs with it and not here.)
constexpr unsigned kDelayed = kHardened ? 32 : 1;
constexpr size_t kDelayedLeast = 128 * KiB;
constexpr size_t kDelayedMost = 16 * MiB;
constexpr size_t kDelayedBytes = 64 * MiB;
constinit std::atomic<Slab*> g_delayed[kDelayed] = {};
constinit std::atomic<size_t> g_delayed_bytes{0};
constinit std::atomic<size_t> g_delay_from{kDelayedLeast};
// Hardened, some keep their pages, which the next block finds resident: to fault one in takes ten
// times what it takes to close it and open it again. A few, or so much of what the process holds:
// with more, what a program has next is in no cache (mstress took a tenth longer).
constexpr unsigned kWaitingFew = 4;
constexpr size_t kWaitingShare = 8, kWaitingLeast = 1 * MiB, kWaitingMost = 16 * MiB;
constinit std::atomic<size_t> g_waiting_bytes{0};

// One that a purge has in hand stays in its place, with this mark, where a forked child finds it.
Slab* in_hand(Slab* slab) { return reinterpret_cast<Slab*>(address(slab) | 1); }
bool is_in_hand(const Slab* slab) { return (address(slab) & 1) != 0; }

// With what lies behind it in its slots.
size_t whole_bytes(const Slab* slab, size_t bytes) {
  return kHardened && slab->slots != 0 ? slab->slots * kSlotBytes : bytes;
}

// Hardened: the block at this place has its pages.
bool waits_at(unsigned i) {
  const Slab* slab = g_delayed[i].load(std::memory_order_acquire);
  return slab != nullptr && !is_in_hand(slab) && slab->waits.load(std::memory_order_relaxed);
}
// Hardened: whether a block may wait with its pages beside those that do.
bool has_room(size_t bytes) {
  unsigned others = 0;
  for (unsigned i = 0; i < kDelayed; ++i) others += waits_at(i) ? 1 : 0;
  const size_t share = min_of(meta::process.held() / kWaitingShare, kWaitingMost);
  const size_t most = others < kWaitingFew ? kWaitingMost : max_of(share, kWaitingLeast);
  return waiting_bytes() + bytes <= most;
}

bool close_delayed(Slab* slab, size_t bytes) {
  if (kHardened && !options.zero && options.purge_ms != 0 && has_room(bytes) &&
      waiting_bytes() + bytes <= most_waiting() && os::protect(slab->start, bytes)) {
    g_waiting_bytes.fetch_add(bytes, std::memory_order_relaxed);
    slab->used_ms = static_cast<uint32_t>(os::now_ms());
    slab->waits.store(true, std::memory_order_relaxed);
    return true;
  }
  return os::forbid(slab->start, whole_bytes(slab, bytes));
}
// Of one that is in no place: its pages are gone, or others count them.
void end_waiting(Slab* slab, size_t bytes) {
  slab->waits.store(false, std::memory_order_relaxed);
  slab->used_ms = 0;
  g_waiting_bytes.fetch_sub(bytes, std::memory_order_relaxed);
}

// Hardened, blocks are opened as they are used.
bool open_delayed(const Slab* slab, size_t bytes) {
  return kHardened || os::renew(slab->start, bytes);
}

// It was among them. Returns its bytes, unless it is for the purge to count them.
size_t give_one(Slab* slab) {
  const size_t bytes = slab->bytes.load(std::memory_order_relaxed);
  g_delayed_bytes.fetch_sub(bytes, std::memory_order_relaxed);
  // What the system keeps closed is lost as addresses.
  if (!open_delayed(slab, bytes)) return 0;
  if (!kHardened) {
    give(slab, Closing::kKeep);
    return 0;
  }
  const bool has_pages = slab->waits.load(std::memory_order_relaxed);
  if (has_pages) end_waiting(slab, bytes);
  give(slab, has_pages ? Closing::kKept : Closing::kGone);
  return has_pages ? 0 : bytes;
}
// The block at this place leaves it for `next`, or nothing. Returns as give_one.
size_t replace_delayed(unsigned i, Slab* next) {
  Slab* slab = g_delayed[i].exchange(next, std::memory_order_acq_rel);
  // Who has it in hand will see that it has no place, and give it.
  return slab == nullptr || is_in_hand(slab) ? 0 : give_one(slab);
}

bool is_to_wait(const Slab* slab, size_t bytes) {
  if (bytes > kDelayedMost) return false;
  if (kHardened) return slab->slots != 0 ? Chunk::of(slab)->is_guarded() : slab->guarded;
  if (bytes < g_delay_from.load(std::memory_order_relaxed)) return false;
  const Backend* from = slab->slots != 0 ? Chunk::of(slab)->from : slab->from;
  if (!from->by_pages()) return false;
  g_delay_from.store(2 * bytes, std::memory_order_relaxed);
  return true;
}

// A block that is free. `is_clean`: it is closed already, and has no pages. False: it is to be
// given back at once.
bool delay(Slab* slab, size_t bytes, bool is_clean) {
  if (!is_to_wait(slab, bytes)) return false;
  // Who is in its place leaves, and others if there is no room for it beside them. (All before the
  // block is counted: one that is and has no place would be missed by a child that is forked then.)
  const auto first = static_cast<unsigned>(hardened::draw() % kDelayed);
  replace_delayed(first, nullptr);
  for (unsigned i = 1; i < kDelayed; ++i) {
    const unsigned place = (first + i) % kDelayed;
    const size_t others = g_delayed_bytes.load(std::memory_order_relaxed);
    const bool is_full = others + bytes > kDelayedBytes;
    if (!is_full && (is_clean || has_room(bytes))) break;
    if (is_full || waits_at(place)) replace_delayed(place, nullptr);
  }
  if (!is_clean && !close_delayed(slab, bytes)) return false;
  g_delayed_bytes.fetch_add(bytes, std::memory_order_relaxed);
  replace_delayed(first, slab);
  return true;
}

// Hardened: blocks of no bytes, which nobody may access (but those of an alignment that takes a
// span).
constinit std::atomic<unsigned> g_nothings{0};

char* slack_at(const Slab* slab) {
  return slab->start + slab->bytes.load(std::memory_order_relaxed) - slab->capacity;
}
// Hardened: the block has n bytes, and its canary behind them.
void close_slack(Slab* slab, size_t n) {
  slab->capacity = static_cast<uint32_t>(slab->bytes.load(std::memory_order_relaxed) - n);
  if (!slab->is_nothing()) hardened::fill_slack(slab->start, slack_at(slab), slab->capacity);
}
// The slack reads as pages do that the program gave back, whose last one is not only its own. Of a
// few bytes it is more likely that zeros were written there, unless the whole page reads so.
[[gnu::cold]] bool is_gone(const char* slack, const char* end) {
  constexpr ptrdiff_t kFew = 8;
  const char* at = end - slack > kFew ? slack : end - os::page_size();
  while (at != end && *at == 0) ++at;
  return at == end;
}
// Hardened: whether the canary is what lies behind the block's bytes. What was written there is
// reported.
bool check_slack(const Slab* slab, const char* seen) {
  if (slab->is_nothing()) return true;
  char* at = slack_at(slab);
  const char* found = hardened::find_in_slack(slab->start, at, slab->capacity);
  if (TALLY_LIKELY(found == nullptr)) return true;
  if (!is_gone(at, at + slab->capacity)) misuse_damage(seen, found, slab->start, at, slab);
  return false;
}
// Hardened: the first so many bytes of the canary become the program's, which is not to read there
// what canaries are made of.
void wipe_slack(const Slab* slab, size_t n) {
  if (!slab->is_nothing()) memset(slack_at(slab), 0, n);
}
void open_slack(const Slab* slab, const char* seen) {
  check_slack(slab, seen);
  wipe_slack(slab, slab->capacity);
}
// Likewise, for good. A program may have protected the block's pages, or have none in a child
// (MADV_DONTFORK), and free what it cannot touch.
void end_slack(const Slab* slab) {
  if (slab->capacity == 0 || slab->is_nothing()) return;
  char* last = slack_at(slab) + slab->capacity - sizeof(uint64_t);  // in the page of all of it
  if (!os::is_readable(last)) return;
  check_slack(slab, "its free");
  if (os::is_writable(last)) wipe_slack(slab, slab->capacity);
}

}  // namespace

bool has_nothing_left() {
  // Each takes a slot of addresses.
  constexpr unsigned kMost = 1024;
  return guard::bytes() != 0 && g_nothings.load(std::memory_order_relaxed) < kMost;
}

size_t give_delayed() {
  size_t bytes = 0;
  for (unsigned i = 0; i < kDelayed; ++i) bytes += replace_delayed(i, nullptr);
  return bytes;
}

size_t waiting_bytes() { return g_waiting_bytes.load(std::memory_order_relaxed); }

size_t purge_waiting(uint64_t now, bool all) {
  if (!kHardened || waiting_bytes() == 0) return 0;
  size_t purged = 0;
  Purging purging;
  for (auto& place : g_delayed) {
    // With the mark it is ours.
    Slab* slab = place.load(std::memory_order_acquire);
    if (slab == nullptr || is_in_hand(slab)) continue;
    if (!place.compare_exchange_strong(slab, in_hand(slab), std::memory_order_acq_rel)) continue;
    const size_t bytes = slab->bytes.load(std::memory_order_relaxed);
    // It may have begun to wait since the caller looked at the clock.
    const auto age = static_cast<int32_t>(static_cast<uint32_t>(now) - slab->used_ms);
    const bool is_due = all || age >= static_cast<int64_t>(options.purge_ms);
    if (is_due && slab->waits.load(std::memory_order_relaxed)) {
      if (slab->slots != 0) keep_pages_small(Chunk::of(slab));
      if (backend::purge(slab->start, whole_bytes(slab, bytes))) {
        end_waiting(slab, bytes);
        purged += bytes;
      }
    }
    at_point("waiting: in hand");
    Slab* marked = in_hand(slab);
    if (!place.compare_exchange_strong(marked, slab, std::memory_order_acq_rel)) give_one(slab);
  }
  return purged;
}

void recount_waiting() {
  if constexpr (!kHardened) return;
  size_t waiting = 0, delayed = 0;
  for (auto& place : g_delayed) {
    Slab* slab = place.load(std::memory_order_relaxed);
    if (slab == nullptr) continue;
    if (is_in_hand(slab)) {
      slab = reinterpret_cast<Slab*>(address(slab) & ~uintptr_t{1});
      if (!Purging::is_under_way()) place.store(slab, std::memory_order_relaxed);
    }
    const size_t bytes = slab->bytes.load(std::memory_order_relaxed);
    delayed += bytes;
    if (slab->waits.load(std::memory_order_relaxed)) waiting += bytes;
  }
  g_waiting_bytes.store(waiting, std::memory_order_relaxed);
  g_delayed_bytes.store(delayed, std::memory_order_relaxed);
}

void* allocate_large(Tag* tag, size_t n, size_t alignment, bool* zeroed) {
  if (n > PTRDIFF_MAX || alignment > PTRDIFF_MAX / 2) return nullptr;
  size_t bytes = round_up(max_of(n, 1), os::page_size());
  // Asked before, as a mapping costs more than a refusal should; and charged after, so that what
  // the system refuses is in no peak.
  if (!tag->may_charge(bytes)) return nullptr;
  const bool is_open = !kHardened || n != 0;
  Slab* slab = take(bytes, alignment, is_open, zeroed);
  if (slab == nullptr) return nullptr;
  if (!tag->charge(bytes)) {
    give(slab, Closing::kGive);
    return nullptr;
  }
  SlabKind kind = slab->slots != 0 ? SlabKind::kRun : SlabKind::kSpan;
  slab->block_size = 0;
  slab->bytes.store(bytes, std::memory_order_relaxed);
  if constexpr (kHardened) {
    const bool is_clean = *zeroed && kind == SlabKind::kRun && !Chunk::of(slab)->leaky;
    slab->nothing = is_open ? Nothing::kNo : is_clean ? Nothing::kClean : Nothing::kDirty;
    if (!is_open) g_nothings.fetch_add(1, std::memory_order_relaxed);
    close_slack(slab, n);
  }
  slab->binding.store(Binding{kind, 0, static_cast<uint16_t>(tag->id)}.pack(),
                      std::memory_order_release);
  tag->add_large(bytes, n);
  if (kind == SlabKind::kRun) {
    Chunk::of(slab)->large_blocks.fetch_add(1, std::memory_order_relaxed);
  }
  purge_tick();
  note_large(slab, n);
  return slab->start;
}

void free_large(Slab* slab) {
  if (kHardened) end_slack(slab);
  forget_large(slab);
  Binding what = slab->what();
  Tag* tag = find_tag(what.tag);
  size_t bytes = slab->bytes.load(std::memory_order_relaxed);
  SlabKind kind = what.kind;
  // The tag stays, for the message if the block is freed again.
  what.kind = SlabKind::kFree;
  slab->binding.store(what.pack(), std::memory_order_relaxed);
  at_point("large: freed");
  if (kind == SlabKind::kRun) {
    Chunk::of(slab)->large_blocks.fetch_sub(1, std::memory_order_relaxed);
  }
  bool is_clean = false;
  if constexpr (kHardened) {
    if (slab->is_nothing()) g_nothings.fetch_sub(1, std::memory_order_relaxed);
    is_clean = slab->nothing == Nothing::kClean;
    slab->nothing = Nothing::kNo;
  }
  if (!delay(slab, bytes, is_clean)) give(slab, Closing::kKeep);
  tag->remove_large(bytes);
  tag->uncharge(bytes);
  purge_tick();
  settle_limits();
}

namespace {

// resize_large, of the pages.
void* resize_pages(Slab* slab, size_t n) {
  size_t old_bytes = slab->bytes.load(std::memory_order_relaxed);
  // Its end is to be where the guard is.
  if (slab->what().kind == SlabKind::kGuarded) return n == old_bytes ? slab->start : nullptr;
  size_t bytes = round_up(max_of(n, 1), os::page_size());
  Tag* tag = find_tag(slab->what().tag);
  if (bytes == old_bytes) return slab->start;
  limits_met.refused = nullptr;
  if (bytes > old_bytes) {
    // Asked first: what is refused above must not be seen below.
    size_t more = bytes - old_bytes;
    if (!tag->may_charge(more) || !tag->reserve(more)) return nullptr;
  }
  bool ok = false;
  note_resizing(slab);
  if (slab->slots == 0) {
    // Much smaller ones move into a chunk, so that a mapping is not held for little.
    ok = bytes > kRunMax / 2 && resize_span(slab, bytes);
  } else if (bytes <= kRunMax && bytes > kMediumMax) {
    unsigned slots = slots_for(bytes);
    bool zeroed = true;
    const unsigned had = slab->slots;
    ok = slots <= had || grow_run(slab, slots, &zeroed);
    if constexpr (kHardened) ok = ok && reopen_run(slab, old_bytes, bytes);
    // Last, as what is another's from then on must not be closed by us.
    const unsigned kept = ok ? slots : had;
    if (slab->slots > kept) shrink_run(slab, kept);
    // What has grown is likely to grow on.
    if (ok && (!zeroed || bytes < old_bytes)) drop_pages_behind(slab, bytes, SIZE_MAX);
  }
  if (!ok) {
    note_unresized(slab);
    if (bytes > old_bytes) tag->unreserve(bytes - old_bytes);
    return nullptr;
  }
  if (bytes > old_bytes) {
    tag->note_reserved();
    tag->own.add(bytes - old_bytes);
  }
  // What callers ask for more is asked for; what they ask for less was asked for before.
  if (n > old_bytes) tag->large_requested.fetch_add(n - old_bytes, std::memory_order_relaxed);
  slab->bytes.store(bytes, std::memory_order_relaxed);
  tag->large_live_bytes.fetch_add(bytes - old_bytes, std::memory_order_relaxed);
  if (bytes < old_bytes) tag->uncharge(old_bytes - bytes);
  at_point("large: resized");
  purge_tick();
  note_resized(slab, old_bytes, n);
  settle_limits();
  return slab->start;
}

}  // namespace

void* resize_large(Slab* slab, size_t n) {
  if (n > PTRDIFF_MAX || (kHardened && slab->is_nothing())) return nullptr;
  if constexpr (!kHardened) return resize_pages(slab, n);
  const size_t bytes = slab->bytes.load(std::memory_order_relaxed);
  const size_t had = bytes - slab->capacity;
  if (had <= n && n <= bytes) {  // as resize_pages has it, and what stays is the canary still
    const bool is_whole = check_slack(slab, "its realloc");
    wipe_slack(slab, n - had);
    slab->capacity = static_cast<uint32_t>(bytes - n);
    if (!is_whole) close_slack(slab, n);
    return slab->start;
  }
  open_slack(slab, "its realloc");
  void* block = resize_pages(slab, n);
  close_slack(slab, block != nullptr ? n : had);
  return block;
}

}  // namespace tally::core
