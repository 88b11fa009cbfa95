#include "memory/span.h"

#include "backend/backend.h"
#include "base/config.h"
#include "base/math.h"
#include "base/options.h"
#include "memory/address_map.h"
#include "memory/chunk.h"
#include "memory/guard.h"
#include "memory/meta.h"
#include "os/os.h"

namespace tally::core {
namespace {

constexpr unsigned kSpanMappings = 2;

// Hardened: a span of which the first `bytes` may be accessed, and the rest may not. False: the
// system refused.
bool open_span(Slab* span, size_t bytes, bool is_new) {
  span->guarded = false;
  if (guard::bytes() == 0 || !span->from->by_pages()) return true;
  span->guarded = guard::take_mappings(kSpanMappings);
  if (!is_new && !os::allow(span->start, span->guarded ? bytes : size_t{span->mapped}))
    return false;
  if (span->guarded) os::protect(span->start + bytes, span->mapped - bytes);
  return true;
}
// It may be accessed no more, unless there were too many mappings when it came.
[[maybe_unused]] void close_span(Slab* span, Closing closing) {
  if (!span->guarded) return;
  const bool is_open = closing == Closing::kKeep || closing == Closing::kGive;
  const bool keeps = closing == Closing::kKeep && !options.zero;
  if (is_open && !(keeps && os::protect(span->start, span->mapped))) {
    os::forbid(span->start, span->mapped);
  }
  guard::give_mappings(kSpanMappings);
  span->guarded = false;
}

// A freed span keeps its descriptor and its place in the address map, so that a second free of it
// is recognised.
struct Kept {
  Slab* span;
  uint64_t since;
};

// Under `central`. As much is kept as is in use: a program that replaces its large blocks finds
// their memory again, resident, and one that frees them all sees it go at once.
constexpr unsigned kKeptMax = 64;
constexpr size_t kKeptBytesLeast = 64 * MiB;
// What is cut off a kept span must be worth a place among them.
constexpr size_t kCutLeast = 256 * KiB;
constinit Kept g_kept[kKeptMax] = {};
constinit unsigned g_kept_count = 0;
constinit Relaxed<size_t> g_kept_bytes = 0;
constinit size_t g_used_bytes = 0;
// Descriptors of no span, linked by `next`.
constinit Slab* g_descriptors = nullptr;
// Spans that are to be unmapped, linked by `next`, each in the hand of a thread.
constinit Slab* g_leaving = nullptr;
// Every descriptor there ever was, linked by `previous`.
constinit Slab* g_all = nullptr;

Slab* take_descriptor() {
  if (Slab* slab = g_descriptors) {
    g_descriptors = slab->next;
    return slab;
  }
  auto* span = static_cast<Slab*>(meta::allocate_forever(sizeof(Slab)));
  if (span == nullptr) return nullptr;
  span->previous = g_all;
  g_all = span;
  return span;
}

void give_descriptor(Slab* slab) {
  slab->next = g_descriptors;
  g_descriptors = slab;
}

char* end_of(const Slab* span) { return span->start + span->mapped; }

Slab* remove_kept(unsigned i) {
  Slab* span = g_kept[i].span;
  g_kept[i] = g_kept[--g_kept_count];
  g_kept_bytes = g_kept_bytes - span->mapped;
  return span;
}

// There is room.
void add_kept(Slab* span, uint64_t since) {
  g_kept[g_kept_count++] = {span, since};
  g_kept_bytes = g_kept_bytes + span->mapped;
}

Slab* remove_oldest() {
  unsigned oldest = 0;
  for (unsigned i = 1; i < g_kept_count; ++i) {
    if (g_kept[i].since < g_kept[oldest].since) oldest = i;
  }
  return remove_kept(oldest);
}

// Spans that lie side by side become one. Only when no single one will do: until then each is known
// by its own start, and a second free of it recognised. True if any did.
bool merge_kept() {
  unsigned before = g_kept_count;
  for (unsigned i = 0; i < g_kept_count; ++i) {
    for (unsigned j = 0; j < g_kept_count;) {
      Slab* left = g_kept[i].span;
      Slab* right = g_kept[j].span;
      if (end_of(left) != right->start || !left->from->by_pages() || left->from != right->from) {
        ++j;
        continue;
      }
      left->mapped = left->mapped + right->mapped;
      g_kept[i].since = max_of(g_kept[i].since, g_kept[j].since);
      address_map.set(right->start, nullptr);
      right->mapped = 0;
      give_descriptor(right);
      g_kept[j] = g_kept[--g_kept_count];
      if (i == g_kept_count) i = j;  // it was the last, and has moved
      j = 0;
    }
  }
  return g_kept_count != before;
}

// What the span has beyond `bytes` is kept on as one of its own.
void cut(Slab* span, size_t bytes, uint64_t since) {
  if (!span->from->by_pages()) return;
  if (span->mapped - bytes < kCutLeast || g_kept_count == kKeptMax) return;
  if (!address_map.prepare(span->start + bytes, 1)) return;
  Slab* rest = take_descriptor();
  if (rest == nullptr) return;
  rest->start = span->start + bytes;
  rest->mapped = span->mapped - bytes;
  rest->from = span->from;
  rest->slots = 0;
  rest->binding.store(span->binding.load(std::memory_order_relaxed), std::memory_order_relaxed);
  address_map.set(rest->start, rest);
  span->mapped = bytes;
  add_kept(rest, since);
}

// The smallest kept span that serves.
Slab* find_kept(size_t bytes, size_t alignment) {
  unsigned best = kKeptMax;
  for (unsigned i = 0; i < g_kept_count; ++i) {
    const Slab* span = g_kept[i].span;
    if (span->mapped < bytes || (address(span->start) & (alignment - 1)) != 0) continue;
    // Nothing can be cut off.
    if (!span->from->by_pages() && span->mapped > bytes + bytes / 4) continue;
    if (best == kKeptMax || span->mapped < g_kept[best].span->mapped) best = i;
  }
  if (best == kKeptMax) return nullptr;
  uint64_t since = g_kept[best].since;
  Slab* span = remove_kept(best);
  cut(span, bytes, since);
  return span;
}

// It becomes so long, and goes where there is room. The system may refuse.
bool move(Slab* span, size_t bytes, size_t alignment) {
  if (!span->from->by_pages()) {
    // It stays as it is; what it does not need is given up as memory.
    if (bytes > span->mapped) return false;
    backend::purge(span->start + bytes, span->mapped - bytes);
    return true;
  }
  // Wherever it goes, it will find its place in the map.
  if (!address_map.reserve()) return false;
  void* moved = backend::resize(span->from, span->start, span->mapped, bytes, alignment);
  if (moved == nullptr) return false;
  address_map.set(span->start, nullptr);
  address_map.prepare(moved, 1);
  address_map.set(moved, span);
  span->start = static_cast<char*>(moved);
  span->mapped = bytes;
  return true;
}

// For want of one that is long enough the longest grows, if it is half of it: its pages move with
// it, and need no fault.
Slab* grow_kept(size_t bytes, size_t alignment) {
  unsigned longest = 0;
  for (unsigned i = 1; i < g_kept_count; ++i) {
    if (g_kept[i].span->mapped > g_kept[longest].span->mapped) longest = i;
  }
  if (alignment > kSlotBytes || g_kept_count == 0) return nullptr;
  const Slab* found = g_kept[longest].span;
  if (found->mapped < bytes / 2 || !found->from->by_pages()) return nullptr;
  Kept kept = g_kept[longest];
  remove_kept(longest);
  if (move(kept.span, bytes, alignment)) return kept.span;
  add_kept(kept.span, kept.since);
  return nullptr;
}

// Under `central`.
void begin_leaving(Slab* span) {
  span->next = g_leaving;
  g_leaving = span;
}
void end_leaving(const Slab* span) {
  Slab** at = &g_leaving;
  while (*at != span) at = &(*at)->next;
  *at = span->next;
}

// Central lock not held. To drop the pages takes long, so it is done first, without the lock. What
// is left to unmap then is a matter of microseconds, and done with it, as a fork takes it too: so
// what the child finds among those that are leaving is mapped still. (Were it unmapped without the
// lock, nobody could tell there whether that was done, and whose the addresses are.)
//
// What the system will not take back (too many mappings) is lost as addresses, without its pages.
void unmap(Slab* span) {
  // What the program locked in memory cannot be purged, but mapped anew.
  if (!backend::purge(span->start, span->mapped) && span->from->by_pages()) {
    os::forbid(span->start, span->mapped);
  }
  LockGuard guard(central);
  end_leaving(span);
  address_map.set(span->start, nullptr);
  backend::give(span->from, span->start, span->mapped);
  give_descriptor(span);
}

}  // namespace

Slab* take_span(size_t bytes, size_t alignment, bool* zeroed) {
  const size_t open_bytes = bytes;
  // Whole slots, so that what is cut off starts at one.
  bytes = round_up(bytes + guard::bytes(), kSlotBytes);
  alignment = max_of(alignment, kSlotBytes);
  Slab* kept = nullptr;
  {
    LockGuard guard(central);
    *zeroed = false;
    kept = find_kept(bytes, alignment);
    if (kept == nullptr && merge_kept()) kept = find_kept(bytes, alignment);
    if (kept == nullptr) kept = grow_kept(bytes, alignment);
    if (kept != nullptr) g_used_bytes += kept->mapped;
  }
  if (kept != nullptr) {
    if (!kHardened || open_span(kept, open_bytes, false)) return kept;
    give_span(kept);
    return nullptr;
  }
  *zeroed = true;
  Backend* from = backend::source();
  void* start = backend::take(from, bytes, alignment);
  if (start == nullptr) return nullptr;
  if (wants_huge_pages()) backend::prefer_huge_pages(start, bytes, true);
  central.acquire();
  Slab* span = address_map.prepare(start, 1) ? take_descriptor() : nullptr;
  if (span != nullptr) {
    span->start = static_cast<char*>(start);
    span->mapped = bytes;
    span->slots = 0;
    span->from = from;
    address_map.set(start, span);
    g_used_bytes += bytes;
  }
  central.release();
  if (span == nullptr) backend::give(from, start, bytes);
  if (kHardened && span != nullptr) open_span(span, open_bytes, true);
  return span;
}

void give_span(Slab* span, Closing closing) {
  if constexpr (kHardened) close_span(span, closing);
  Slab* out[kKeptMax + 1];
  unsigned count = 0;
  Purging purging;
  {
    LockGuard guard(central);
    g_used_bytes -= span->mapped;
    size_t most = options.purge_ms == 0 || options.zero ? 0 : max_of(kKeptBytesLeast, g_used_bytes);
    // It is charged still.
    most = min_of(most, meta::process.room() + span->mapped);
    bool keep = span->mapped <= most;
    if (g_kept_count == kKeptMax) merge_kept();
    while (g_kept_count == kKeptMax || g_kept_bytes > most - (keep ? size_t{span->mapped} : 0)) {
      out[count++] = remove_oldest();
    }
    if (keep) {
      add_kept(span, os::now_ms());
    } else {
      out[count++] = span;
    }
    for (unsigned i = 0; i < count; ++i) begin_leaving(out[i]);
  }
  while (count-- != 0) unmap(out[count]);
}

size_t kept_span_bytes() { return g_kept_bytes; }

bool resize_span(Slab* span, size_t bytes) {
  size_t open_bytes = bytes;
  bytes = round_up(bytes + guard::bytes(), kSlotBytes);
  LockGuard guard(central);
  size_t had = span->mapped, had_open = span->bytes.load(std::memory_order_relaxed);
  const bool is_guarded = kHardened && span->guarded;
  // Only what is one mapping can be resized.
  if (is_guarded) os::allow(span->start + had_open, had - had_open);
  const bool moved = move(span, bytes, kSlotBytes);
  if (!moved) open_bytes = had_open;
  if (is_guarded) os::protect(span->start + open_bytes, span->mapped - open_bytes);
  g_used_bytes += span->mapped - had;
  return moved;
}

const Slab* find_span(const void* p) {
  LockGuard guard(central);
  for (const Slab* span = g_all; span != nullptr; span = span->previous) {
    size_t offset = address(p) - address(span->start);
    if (span->what().kind == SlabKind::kSpan && offset < span->mapped) return span;
  }
  return nullptr;
}

size_t list_spans(const Slab** next, SpanFacts* facts, size_t most) {
  size_t count = 0;
  LockGuard guard(central);
  const Slab* span = *next;
  if (span == nullptr) {
    // Those that are kept come first, as their descriptors do not tell.
    for (; count < g_kept_count && count < most; ++count) {
      facts[count] = {g_kept[count].span->start, g_kept[count].span->mapped, 0};
    }
    span = g_all;
  }
  for (unsigned looked_at = 0; span != nullptr && count < most && looked_at < 4 * kKeptMax;
       span = span->previous, ++looked_at) {
    const bool is_used = span->what().kind == SlabKind::kSpan;
    if (!is_used && !span->waits.load(std::memory_order_relaxed)) continue;
    facts[count++] = {span->start, span->mapped,
                      is_used ? span->bytes.load(std::memory_order_relaxed) : 0};
  }
  *next = span;
  return count;
}

size_t purge_spans(uint64_t now, bool all) {
  Slab* out[kKeptMax];
  unsigned count = 0;
  Purging purging;
  {
    LockGuard guard(central);
    for (unsigned i = 0; i < g_kept_count;) {
      if (all || now >= g_kept[i].since + options.purge_ms) {
        out[count++] = remove_kept(i);
      } else {
        ++i;
      }
    }
    for (unsigned i = 0; i < count; ++i) begin_leaving(out[i]);
  }
  size_t purged = 0;
  while (count-- != 0) {
    purged += out[count]->mapped;
    unmap(out[count]);
  }
  return purged;
}

void recover_spans() {
  while (g_leaving != nullptr) unmap(g_leaving);
}

}  // namespace tally::core
