#include "memory/span.h"

#include "backend/backend.h"
#include "base/config.h"
#include "base/math.h"
#include "base/options.h"
#include "memory/address_map.h"
#include "memory/chunk.h"
#include "memory/meta.h"
#include "os/os.h"

namespace tally::core {
namespace {

// A freed span keeps its descriptor and its place in the address map, so that a second free of it
// is recognised.
struct Kept {
  Slab* span;
  uint64_t since;
};

// Under `central`. Few and bounded: a program that frees a gigabyte should see it go at once.
constexpr unsigned kKeptMax = 16;
constexpr size_t kKeptBytesMax = 64 * MiB;
constinit Kept g_kept[kKeptMax] = {};
constinit unsigned g_kept_count = 0;
constinit size_t g_kept_bytes = 0;
// Descriptors of no span, linked by `next`.
constinit Slab* g_descriptors = nullptr;
// Every descriptor there ever was, linked by `previous`.
constinit Slab* g_all = nullptr;

Slab* remove_kept(unsigned i) {
  Slab* span = g_kept[i].span;
  g_kept[i] = g_kept[--g_kept_count];
  g_kept_bytes -= span->mapped;
  return span;
}

// The smallest kept span that serves, unless it would waste more than an eighth.
Slab* find_kept(size_t bytes, size_t alignment) {
  unsigned best = kKeptMax;
  for (unsigned i = 0; i < g_kept_count; ++i) {
    const Slab* span = g_kept[i].span;
    if (span->mapped < bytes || span->mapped > bytes + bytes / 8) continue;
    if ((address(span->start) & (alignment - 1)) != 0) continue;
    if (best == kKeptMax || span->mapped < g_kept[best].span->mapped) best = i;
  }
  return best == kKeptMax ? nullptr : remove_kept(best);
}

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

// Central lock not held. What the system will not take back (too many mappings) gives back its
// pages at least, and is lost as addresses.
void unmap(Slab* span) {
  central.acquire();
  address_map.set(span->start, nullptr);
  central.release();
  if (!backend::give(span->start, span->mapped)) backend::purge(span->start, span->mapped);
  LockGuard guard(central);
  give_descriptor(span);
}

}  // namespace

Slab* take_span(size_t bytes, size_t alignment, bool* zeroed) {
  bytes = round_up(bytes, os::page_size());
  alignment = max_of(alignment, kSlotBytes);
  {
    LockGuard guard(central);
    *zeroed = false;
    if (Slab* kept = find_kept(bytes, alignment)) return kept;
  }
  *zeroed = true;
  void* start = backend::take(bytes, alignment);
  if (start == nullptr) return nullptr;
  central.acquire();
  Slab* span = address_map.prepare(start, 1) ? take_descriptor() : nullptr;
  if (span != nullptr) {
    span->start = static_cast<char*>(start);
    span->mapped = bytes;
    span->slots = 0;
    address_map.set(start, span);
  }
  central.release();
  if (span == nullptr) backend::give(start, bytes);
  return span;
}

void give_span(Slab* span) {
  Slab* out[kKeptMax + 1];
  unsigned count = 0;
  if (span->mapped > kKeptBytesMax / 2 || options.purge_ms == 0) {
    out[count++] = span;
  } else {
    LockGuard guard(central);
    while (g_kept_count == kKeptMax || g_kept_bytes + span->mapped > kKeptBytesMax) {
      unsigned oldest = 0;
      for (unsigned i = 1; i < g_kept_count; ++i) {
        if (g_kept[i].since < g_kept[oldest].since) oldest = i;
      }
      out[count++] = remove_kept(oldest);
    }
    g_kept[g_kept_count++] = {span, os::now_ms()};
    g_kept_bytes += span->mapped;
  }
  while (count-- != 0) unmap(out[count]);
}

bool resize_span(Slab* span, size_t bytes) {
  bytes = round_up(bytes, os::page_size());
  LockGuard guard(central);
  // Wherever it goes, it will find its place in the map.
  if (!address_map.reserve()) return false;
  void* moved = backend::resize(span->start, span->mapped, bytes, kSlotBytes);
  if (moved == nullptr) return false;
  address_map.set(span->start, nullptr);
  address_map.prepare(moved, 1);
  address_map.set(moved, span);
  span->start = static_cast<char*>(moved);
  span->mapped = bytes;
  return true;
}

const Slab* find_span(const void* p) {
  LockGuard guard(central);
  for (const Slab* span = g_all; span != nullptr; span = span->previous) {
    size_t offset = address(p) - address(span->start);
    if (span->what().kind == SlabKind::kSpan && offset < span->mapped) return span;
  }
  return nullptr;
}

size_t purge_spans(uint64_t now, bool all) {
  Slab* out[kKeptMax];
  unsigned count = 0;
  {
    LockGuard guard(central);
    for (unsigned i = 0; i < g_kept_count;) {
      if (all || now >= g_kept[i].since + options.purge_ms) {
        out[count++] = remove_kept(i);
      } else {
        ++i;
      }
    }
  }
  size_t purged = 0;
  while (count-- != 0) {
    purged += out[count]->mapped;
    unmap(out[count]);
  }
  return purged;
}

}  // namespace tally::core
