#include "heap/large.h"

#include <stdint.h>
#include <string.h>

#include "base/math.h"
#include "base/preempt.h"
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

void give(Slab* slab, bool is_closed = false) {
  slab->slots != 0 ? give_run(slab, is_closed ? Closing::kGone : Closing::kGive)
                   : give_span(slab, is_closed);
}

Slab* take(size_t bytes, size_t alignment, bool is_open, bool* zeroed) {
  if (bytes <= kRunMax && alignment <= kRunMax) {
    Slab* run = take_run(slots_for(bytes), alignment, false, zeroed);
    if (!kHardened || run == nullptr) return run;
    // A slab may have been there, of which what can be seen goes if the system will not take it.
    const bool is_dirty = Chunk::of(run)->is_guarded() && !*zeroed && !clean_run(run, 0);
    if (!open_run(run, is_open ? bytes : 0)) {
      give_run(run);
      return nullptr;
    }
    if (is_dirty && is_open) memset(run->start, 0, bytes);
    if (Chunk::of(run)->is_guarded()) *zeroed = true;
    return run;
  }
  return take_span(bytes, alignment, zeroed);
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

// Hardened, blocks are opened as they are used.
bool open_delayed(const Slab* slab, size_t bytes) {
  return kHardened || os::renew(slab->start, bytes);
}

// The block at this place leaves it for `next`, or nothing. Returns its bytes, unless it is for the
// purge to count them.
size_t replace_delayed(unsigned i, Slab* next) {
  Slab* slab = g_delayed[i].exchange(next, std::memory_order_acq_rel);
  if (slab == nullptr) return 0;
  const size_t bytes = slab->bytes.load(std::memory_order_relaxed);
  g_delayed_bytes.fetch_sub(bytes, std::memory_order_relaxed);
  // What the system keeps closed is lost as addresses.
  if (!open_delayed(slab, bytes)) return 0;
  give(slab, kHardened);
  return kHardened ? bytes : 0;
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

// A block that is free. False: it is to be given back at once.
bool delay(Slab* slab, size_t bytes) {
  if (!is_to_wait(slab, bytes) || !os::forbid(slab->start, bytes)) return false;
  g_delayed_bytes.fetch_add(bytes, std::memory_order_relaxed);
  const auto first = static_cast<unsigned>(hardened::draw() % kDelayed);
  for (unsigned i = 1; i < kDelayed; ++i) {
    if (g_delayed_bytes.load(std::memory_order_relaxed) <= kDelayedBytes) break;
    replace_delayed((first + i) % kDelayed, nullptr);
  }
  replace_delayed(first, slab);
  return true;
}

// Hardened: blocks of no bytes, which nobody may access.
constinit std::atomic<unsigned> g_nothings{0};

[[maybe_unused]] void note_nothing(Slab* slab, bool yes) {
  if (yes) g_nothings.fetch_add(1, std::memory_order_relaxed);
  if (!yes && slab->is_nothing) g_nothings.fetch_sub(1, std::memory_order_relaxed);
  slab->is_nothing = yes;
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
    give(slab);
    return nullptr;
  }
  SlabKind kind = slab->slots != 0 ? SlabKind::kRun : SlabKind::kSpan;
  slab->block_size = 0;
  if constexpr (kHardened) {
    slab->capacity = static_cast<uint32_t>(bytes - n);
    note_nothing(slab, !is_open);
  }
  slab->bytes.store(bytes, std::memory_order_relaxed);
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
  if constexpr (kHardened) note_nothing(slab, false);
  if (!delay(slab, bytes)) give(slab);
  tag->remove_large(bytes);
  tag->uncharge(bytes);
  purge_tick();
  settle_limits();
}

void* resize_large(Slab* slab, size_t n) {
  if (n > PTRDIFF_MAX) return nullptr;
  size_t old_bytes = slab->bytes.load(std::memory_order_relaxed);
  // Its end is to be where the guard is.
  if (slab->what().kind == SlabKind::kGuarded) return n == old_bytes ? slab->start : nullptr;
  if (kHardened && slab->is_nothing) return nullptr;
  size_t bytes = round_up(max_of(n, 1), os::page_size());
  Tag* tag = find_tag(slab->what().tag);
  if (bytes == old_bytes) {
    if constexpr (kHardened) slab->capacity = static_cast<uint32_t>(bytes - n);
    return slab->start;
  }
  limits_met.refused = nullptr;
  if (bytes > old_bytes) {
    // Asked first: what is refused above must not be seen below.
    size_t more = bytes - old_bytes;
    if (!tag->may_charge(more) || !tag->reserve(more)) return nullptr;
  }
  bool ok = false;
  const char* old_start = slab->start;
  if (slab->slots == 0) {
    // Much smaller ones move into a chunk, so that a mapping is not held for little.
    ok = bytes > kRunMax / 2 && resize_span(slab, bytes);
  } else if (bytes <= kRunMax && bytes > kMediumMax) {
    unsigned slots = slots_for(bytes);
    bool zeroed = true;
    const unsigned had = slab->slots;
    ok = slots <= had || grow_run(slab, slots, &zeroed);
    if constexpr (kHardened) {
      ok = ok && (zeroed || clean_run(slab, had)) && reopen_run(slab, old_bytes, bytes);
    }
    // Last, as what is another's from then on must not be closed by us.
    const unsigned kept = ok ? slots : had;
    if (slab->slots > kept) shrink_run(slab, kept);
  }
  if (!ok) {
    if (bytes > old_bytes) tag->unreserve(bytes - old_bytes);
    return nullptr;
  }
  if (bytes > old_bytes) tag->own.add(bytes - old_bytes);
  // What callers ask for more is asked for; what they ask for less was asked for before.
  if (n > old_bytes) tag->large_requested.fetch_add(n - old_bytes, std::memory_order_relaxed);
  slab->bytes.store(bytes, std::memory_order_relaxed);
  if constexpr (kHardened) slab->capacity = static_cast<uint32_t>(bytes - n);
  tag->large_live_bytes.fetch_add(bytes - old_bytes, std::memory_order_relaxed);
  if (bytes < old_bytes) tag->uncharge(old_bytes - bytes);
  purge_tick();
  note_resized(slab, old_start, old_bytes, n);
  settle_limits();
  return slab->start;
}

}  // namespace tally::core
