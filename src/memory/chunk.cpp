#include "memory/chunk.h"

#include <bit>

#include "backend/backend.h"
#include "base/check.h"
#include "base/math.h"
#include "base/options.h"
#include "base/preempt.h"
#include "memory/address_map.h"
#include "memory/guard.h"
#include "memory/meta.h"
#include "memory/refusal.h"
#include "os/os.h"

namespace tally::core {

constinit Lock central;
constinit std::atomic<Chunk*> all_chunks{nullptr};

namespace {

// Chunks by their longest free run; bin 0: only slot 0 is free.
constinit Chunk* g_bins[kSlotsPerChunk] = {};
constinit uint64_t g_filled_bins = 0;
// Dirty slots of all chunks. Written under `central`.
constinit std::atomic<size_t> g_dirty{0};
// Slots of all chunks that purges have in hand. Under `central`.
constinit size_t g_out = 0;
// How often slots came free. Written under `central`.
constinit Relaxed<uint64_t> g_vacated{0};
constinit Refusal g_refusal;
// When more are dirty than may wait, so much is purged at once, no more, as a free waits for it.
constexpr size_t kPurgeStep = 4 * MiB;

size_t slots_in(uint64_t mask) { return static_cast<size_t>(std::popcount(mask)); }

void set_dirty(Chunk* chunk, uint64_t slots) {
  size_t dirty = g_dirty.load(std::memory_order_relaxed);
  g_dirty.store(dirty - slots_in(chunk->dirty_slots) + slots_in(slots), std::memory_order_relaxed);
  chunk->dirty_slots = slots;
}

void set_out(Chunk* chunk, uint64_t slots) {
  g_out = g_out - slots_in(chunk->out_slots) + slots_in(slots);
  chunk->out_slots = slots;
}

uint64_t bits(unsigned first, unsigned count) {
  return (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << first;
}

// The bits at which `count` set bits in a row begin.
uint64_t runs_of(uint64_t mask, unsigned count) {
  unsigned have = 1;
  while (have < count) {
    unsigned step = static_cast<unsigned>(min_of(have, count - have));
    mask &= mask >> step;
    have += step;
  }
  return mask;
}

unsigned longest_run(uint64_t mask) {
  unsigned length = 0;
  for (; mask != 0; ++length) mask &= mask >> 1;
  return length;
}

void unlink(Chunk* chunk) {
  if (chunk->bin == Chunk::kNoBin) return;
  if (chunk->previous != nullptr) {
    chunk->previous->next = chunk->next;
  } else {
    g_bins[chunk->bin] = chunk->next;
    if (chunk->next == nullptr) g_filled_bins &= ~bits(chunk->bin, 1);
  }
  if (chunk->next != nullptr) chunk->next->previous = chunk->previous;
}

// The chunk's free slots changed.
void rebin(Chunk* chunk) {
  unsigned bin =
      chunk->free_slots == 0 ? Chunk::kNoBin : longest_run(chunk->free_slots & ~uint64_t{1});
  if (bin == chunk->bin) return;
  unlink(chunk);
  chunk->bin = bin;
  if (bin == Chunk::kNoBin) return;
  chunk->previous = nullptr;
  chunk->next = g_bins[bin];
  if (chunk->next != nullptr) chunk->next->previous = chunk;
  g_bins[bin] = chunk;
  g_filled_bins |= bits(bin, 1);
}

// By default the first chunk is opened as its slots come into use, twice as many each time: who
// runs far off the end of a block is ended by that, as at the end of glibc's heap, and most
// programs have no more than this chunk. It costs a process five calls.
constexpr unsigned kOpenAtFirst = 4;

void close_most(Chunk* chunk) {
  chunk->open_slots = kSlotsPerChunk;
  if (kHardened || !chunk->from->by_pages() || wants_huge_pages() ||
      all_chunks.load(std::memory_order_relaxed) != nullptr) {
    return;
  }
  constexpr size_t kClosed = (kSlotsPerChunk - kOpenAtFirst) * kSlotBytes;
  if (os::protect(chunk->slot_start(kOpenAtFirst), kClosed)) chunk->open_slots = kOpenAtFirst;
}

// So that the first `slots` may be used. False: the system refused.
bool open_to(Chunk* chunk, unsigned slots) {
  const unsigned open = chunk->open_slots;
  if (slots <= open) return true;
  const unsigned to = min_of(max_of(slots, 2 * open), kSlotsPerChunk);
  if (!os::renew(chunk->slot_start(open), (to - open) * kSlotBytes)) return false;
  chunk->open_slots = to;
  return true;
}

// Where all slots are runs that end at a closed page; and the chunk's header.
constexpr unsigned kChunkMappings = 2 * kSlotsPerChunk + 2;

// Memory that nobody may access, though the system has it all. Else it is open, no more.
void close_new(Chunk* chunk, char* start, const char* end) {
  if (start < end && !os::protect(start, static_cast<size_t>(end - start))) chunk->leaky = true;
}

// Free slots: true if they are clean.
bool close(Chunk* chunk, unsigned first, unsigned slots, Closing closing) {
  if (closing == Closing::kGone) return true;
  if (closing == Closing::kKept) return false;
  char* start = chunk->slot_start(first);
  const auto bytes = static_cast<size_t>(chunk->slot_end(first + slots - 1) - start);
  if (!chunk->is_guarded()) return kHardened && options.zero && backend::purge(start, bytes);
  const bool keeps = closing == Closing::kKeep && !options.zero;
  if (keeps && os::protect(start, bytes)) return false;
  if (os::forbid(start, bytes)) return true;
  chunk->leaky = true;
  return false;
}

// The slots behind the first.
constexpr size_t kHollowBytes = kChunkBytes - kSlotBytes;
constexpr uint64_t kHollowSlots = ~uint64_t{1};
constinit unsigned g_hollow_count = 0;

// A hollow chunk whose addresses are still free, whole again.
Chunk* refill_hollow() {
  for (Chunk* chunk = all_chunks.load(std::memory_order_relaxed);
       chunk != nullptr && g_hollow_count != 0; chunk = chunk->next_chunk) {
    if (!chunk->hollow || !backend::take_again(chunk->slot_start(1), kHollowBytes)) continue;
    chunk->hollow = false;
    chunk->open_slots = kSlotsPerChunk;
    if (chunk->is_guarded()) {
      close_new(chunk, chunk->slot_start(1), chunk->slot_end(kSlotsPerChunk - 1));
    }
    --g_hollow_count;
    for (unsigned i = 1; i < kSlotsPerChunk; ++i) {
      address_map.set(chunk->slot_start(i), &chunk->slabs[i]);
    }
    chunk->free_slots |= kHollowSlots;
    rebin(chunk);
    return chunk;
  }
  return nullptr;
}

Chunk* new_chunk() {
  if (Chunk* chunk = refill_hollow()) return chunk;
  const size_t header = round_up(sizeof(Chunk), os::page_size());
  if (!meta::charge(header)) return nullptr;
  Backend* from = backend::source();
  auto* chunk = static_cast<Chunk*>(backend::take(from, kChunkBytes, kChunkBytes));
  if (chunk == nullptr || !address_map.prepare(chunk, kChunkBytes)) {
    if (chunk != nullptr) backend::give(from, chunk, kChunkBytes);
    meta::uncharge(header);
    return nullptr;
  }
  if (wants_huge_pages()) {
    backend::prefer_huge_pages(chunk, kChunkBytes, true);
    chunk->huge.store(true, std::memory_order_relaxed);
  }
  chunk->from = from;
  close_most(chunk);
  if (guard::bytes() != 0 && from->by_pages() && guard::take_mappings(kChunkMappings)) {
    chunk->guarded = true;
    close_new(chunk, reinterpret_cast<char*>(chunk) + header, chunk->slot_end(kSlotsPerChunk - 1));
  }
  chunk->free_slots = ~uint64_t{0};
  chunk->bin = Chunk::kNoBin;
  rebin(chunk);
  chunk->next_chunk = all_chunks.load(std::memory_order_relaxed);
  all_chunks.store(chunk, std::memory_order_release);
  return chunk;
}

// Where in the chunk the run goes: slots that are resident first, as their pages need no fault. 64
// if nowhere.
unsigned place(const Chunk* chunk, unsigned slots, uint64_t allowed) {
  uint64_t dirty = runs_of(chunk->dirty_slots, slots) & allowed;
  if (dirty != 0) return static_cast<unsigned>(std::countr_zero(dirty));
  return static_cast<unsigned>(std::countr_zero(runs_of(chunk->free_slots, slots) & allowed));
}

void occupy(Chunk* chunk, unsigned first, unsigned slots, const Slab* slab, bool* zeroed) {
  uint64_t mask = bits(first, slots);
  // Slot 0 begins with the header, and where pages are long is not purged.
  *zeroed = first != 0 && (chunk->dirty_slots & mask) == 0;
  chunk->free_slots &= ~mask;
  set_dirty(chunk, chunk->dirty_slots & ~mask);
  rebin(chunk);
  for (unsigned i = first; i < first + slots; ++i) address_map.set(chunk->slot_end(i) - 1, slab);
}

// Slots that resolve to their own, free, descriptor again.
void vacate(Chunk* chunk, unsigned first, unsigned slots, Closing closing = Closing::kGive) {
  uint64_t mask = bits(first, slots);
  TALLY_ASSERT((chunk->free_slots & mask) == 0);
  for (unsigned i = first; i < first + slots; ++i) {
    address_map.set(chunk->slot_end(i) - 1, &chunk->slabs[i]);
  }
  chunk->free_slots |= mask;
  g_vacated = g_vacated + 1;
  if (!close(chunk, first, slots, closing)) {
    // Of what waited already since it was freed the others need not wait once more.
    if (closing != Closing::kKept || chunk->dirty_slots == 0) chunk->dirty_since = os::now_ms();
    set_dirty(chunk, chunk->dirty_slots | mask);
  }
  rebin(chunk);
}

// Gives dirty slots back: those of chunks that were left alone for options.purge_ms, or, up to
// `most` bytes, any.
size_t purge_dirty(uint64_t now, size_t most) {
  if (g_dirty.load(std::memory_order_relaxed) == 0) return 0;
  Purging purging;
  size_t purged = 0;
  central.acquire();
  for (Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
       chunk = chunk->next_chunk) {
    if (chunk->dirty_slots == 0) continue;
    if (most != 0 && purged >= most) break;
    if (most == 0 && now < chunk->dirty_since + options.purge_ms) continue;
    // While the lock is open the slots are nobody's: neither free nor in a run. They are noted, as
    // a fork may come in between, and most often does: it waits for the same lock of the kernel's.
    uint64_t dirty = chunk->dirty_slots;
    chunk->free_slots &= ~dirty;
    set_dirty(chunk, 0);
    set_out(chunk, chunk->out_slots | dirty);
    rebin(chunk);
    central.release();
    at_point("purge: slots are nobody's");
    keep_pages_small(chunk);
    uint64_t kept = 0;
    unsigned at_once = kSlotsPerChunk;
    for (uint64_t rest = dirty; rest != 0;) {
      unsigned first = static_cast<unsigned>(std::countr_zero(rest));
      unsigned count = min_of(static_cast<unsigned>(std::countr_one(rest >> first)), at_once);
      // The chunk's header ends within a page where pages are long.
      char* start =
          reinterpret_cast<char*>(round_up(address(chunk->slot_start(first)), os::page_size()));
      size_t bytes = static_cast<size_t>(chunk->slot_end(first + count - 1) - start);
      if (bytes == 0 || backend::purge(start, bytes)) {
        purged += bytes;
      } else if (count > 1) {
        at_once = 1;  // what is refused may be one page of it
        continue;
      } else {
        kept |= bits(first, count);
      }
      rest &= ~bits(first, count);
    }
    central.acquire();
    chunk->free_slots |= dirty;
    set_out(chunk, chunk->out_slots & ~dirty);
    set_dirty(chunk, chunk->dirty_slots | kept);
    if (kept != 0) chunk->dirty_since = now;
    rebin(chunk);
  }
  central.release();
  if (purged == 0 && most != 0) g_refusal.note(now);
  return purged;
}

void purge_surplus() {
  if (g_dirty.load(std::memory_order_relaxed) * kSlotBytes <= most_waiting()) return;
  uint64_t now = os::now_ms();
  if (!g_refusal.is_recent(now)) purge_dirty(now, kPurgeStep);
}

}  // namespace

Slab* take_run(unsigned slots, size_t alignment, bool short_slot, bool* zeroed) {
  unsigned step = static_cast<unsigned>(max_of(alignment >> kSlotShift, 1));
  uint64_t allowed = short_slot ? ~uint64_t{0} : ~uint64_t{1};
  if (step > 1) {
    uint64_t aligned = 0;
    for (unsigned i = 0; i < kSlotsPerChunk; i += step) aligned |= bits(i, 1);
    allowed &= aligned;
  }
  LockGuard guard(central);
  unsigned least = short_slot ? 0 : slots;
  Chunk* chunk = nullptr;
  unsigned first = kSlotsPerChunk;
  for (uint64_t bins = g_filled_bins & ~bits(0, least); bins != 0 && first == kSlotsPerChunk;
       bins &= bins - 1) {
    for (chunk = g_bins[std::countr_zero(bins)]; chunk != nullptr; chunk = chunk->next) {
      first = place(chunk, slots, allowed);
      if (first != kSlotsPerChunk) break;
    }
  }
  if (first == kSlotsPerChunk) {
    chunk = new_chunk();
    if (chunk == nullptr) return nullptr;
    first = place(chunk, slots, allowed);
    TALLY_ASSERT(first != kSlotsPerChunk);
  }
  if (!open_to(chunk, first + slots)) return nullptr;
  Slab* slab = &chunk->slabs[first];
  occupy(chunk, first, slots, slab, zeroed);
  slab->start = chunk->slot_start(first);
  slab->slots = slots;
  return slab;
}

bool drop_pages_behind(Slab* run, size_t bytes, size_t most) {
  Chunk* chunk = Chunk::of(run);
  char* start = run->start + bytes;
  char* end = chunk->slot_end(chunk->slot_of(run) + run->slots - 1);
  if (meta::process.limit() != Account::kNoLimit) most = 0;
  if (static_cast<size_t>(end - start) <= most || start == end) return false;
  keep_pages_small(chunk);
  return backend::purge(start, static_cast<size_t>(end - start));
}

bool open_run(Slab* run, size_t bytes) {
  return bytes == 0 || !Chunk::of(run)->is_guarded() || os::allow(run->start, bytes);
}

bool reopen_run(Slab* run, size_t old_bytes, size_t bytes) {
  if (!Chunk::of(run)->is_guarded()) return true;
  if (bytes > old_bytes) return os::allow(run->start + old_bytes, bytes - old_bytes);
  os::forbid(run->start + bytes, old_bytes - bytes);
  return true;
}

void give_run(Slab* run, Closing closing) {
  Chunk* chunk = Chunk::of(run);
  {
    LockGuard guard(central);
    vacate(chunk, chunk->slot_of(run), run->slots, closing);
  }
  purge_surplus();
}

void shrink_run(Slab* run, unsigned slots) {
  Chunk* chunk = Chunk::of(run);
  {
    LockGuard guard(central);
    vacate(chunk, chunk->slot_of(run) + slots, run->slots - slots);
    run->slots = slots;
  }
  purge_surplus();
}

bool grow_run(Slab* run, unsigned slots, bool* zeroed) {
  Chunk* chunk = Chunk::of(run);
  unsigned behind = chunk->slot_of(run) + run->slots;
  unsigned more = slots - run->slots;
  if (behind + more > kSlotsPerChunk) return false;
  LockGuard guard(central);
  uint64_t mask = bits(behind, more);
  if ((chunk->free_slots & mask) != mask || !open_to(chunk, behind + more)) return false;
  occupy(chunk, behind, more, run, zeroed);
  run->slots = slots;
  return true;
}

bool hollow_chunks() {
  bool any = false;
  LockGuard guard(central);
  for (Chunk* chunk = all_chunks.load(std::memory_order_relaxed); chunk != nullptr;
       chunk = chunk->next_chunk) {
    if ((chunk->free_slots & kHollowSlots) != kHollowSlots || !chunk->from->by_pages()) continue;
    if (!backend::give(chunk->from, chunk->slot_start(1), kHollowBytes)) continue;
    any = true;
    chunk->hollow = true;
    ++g_hollow_count;
    for (unsigned i = 1; i < kSlotsPerChunk; ++i) address_map.set(chunk->slot_start(i), nullptr);
    chunk->free_slots &= ~kHollowSlots;
    set_dirty(chunk, chunk->dirty_slots & ~kHollowSlots);
    rebin(chunk);
  }
  return any;
}

bool wants_huge_pages() {
  // Where time is lost for want of them, and 2 MiB are nothing.
  constexpr uint64_t kAutoLeast = 128 * MiB;
  return options.thp == HugePages::kAlways ||
         (options.thp == HugePages::kAuto && meta::process.held() >= kAutoLeast);
}

void keep_pages_small(Chunk* chunk) {
  if (!chunk->huge.load(std::memory_order_relaxed)) return;
  backend::prefer_huge_pages(chunk, kChunkBytes, false);
  // Last, so that nobody, nor a child forked meanwhile, takes for done what is not.
  chunk->huge.store(false, std::memory_order_relaxed);
}

size_t most_waiting() {
  // What waits is resident, and a limit of the process's is to hold for that too.
  return min_of(max_of(64 * MiB, meta::process.held() / 8), meta::process.room());
}

size_t chunk_count() {
  size_t count = 0;
  for (const Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
       chunk = chunk->next_chunk) {
    ++count;
  }
  return count;
}

uint64_t runs_given() { return g_vacated; }

size_t dirty_run_bytes() { return g_dirty.load(std::memory_order_relaxed) * kSlotBytes; }

size_t purge_runs(uint64_t now, bool all) { return purge_dirty(now, all ? SIZE_MAX : 0); }

void recover_slots() {
  LockGuard guard(central);
  for (Chunk* chunk = all_chunks.load(std::memory_order_relaxed); chunk != nullptr && g_out != 0;
       chunk = chunk->next_chunk) {
    const uint64_t out = chunk->out_slots;
    if (out == 0) continue;
    set_out(chunk, 0);
    chunk->free_slots |= out;
    set_dirty(chunk, chunk->dirty_slots | out);
    rebin(chunk);
  }
}

}  // namespace tally::core
