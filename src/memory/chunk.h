// Chunks, and the runs of slots in them. A chunk is never given back: its free slots are purged
// after a while, and used again.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "backend/backend.h"
#include "base/config.h"
#include "memory/slab.h"
#include "os/lock.h"

namespace tally::core {

// free_slots has a bit for each slot in no run, dirty_slots for each of those whose pages may be
// resident and not zero: dirty_slots is a subset of free_slots. out_slots, of those that purges
// have in hand, is a subset of neither. Written under `central`.
struct Chunk {
  Slab slabs[kSlotsPerChunk];
  Chunk* next_chunk;  // const: of all, newest first
  Backend* from;      // const
  uint64_t free_slots;
  Relaxed<uint64_t> dirty_slots;
  uint64_t out_slots;
  uint64_t dirty_since;  // ms: when a slot last became dirty
  Chunk* next;           // in its bin
  Chunk* previous;
  unsigned bin;  // the longest free run, without slot 0; kNoBin if no slot is free
  static constexpr unsigned kNoBin = ~0U;
  // Asked for huge pages. Any thread takes it back: when the first page of it goes back to the
  // system, which would fill huge pages up again.
  std::atomic<bool> huge;
  std::atomic<uint32_t> large_blocks;  // any: runs that are one each
  Relaxed<bool> hollow;  // all but the first slot was given back, for want of address space
  unsigned open_slots;   // those behind may not be accessed yet
  bool guarded;  // const; hardened: what is free in it is closed, and runs end at closed pages
  Relaxed<bool> leaky;  // but that the system refused it once, so that some of it may be open

  static Chunk* of(const Slab* slab) {
    return reinterpret_cast<Chunk*>(address_of(slab) & ~(kChunkBytes - 1));
  }
  bool is_guarded() const { return kHardened && guarded; }
  unsigned slot_of(const Slab* slab) const { return static_cast<unsigned>(slab - slabs); }
  // Where the memory of a slot begins and ends.
  char* slot_start(unsigned slot) {
    return reinterpret_cast<char*>(this) + (slot == 0 ? kChunkHeaderBytes : slot * kSlotBytes);
  }
  char* slot_end(unsigned slot) { return reinterpret_cast<char*>(this) + (slot + 1) * kSlotBytes; }

 private:
  static uintptr_t address_of(const void* p) { return reinterpret_cast<uintptr_t>(p); }
};
static_assert(sizeof(Chunk) <= kChunkHeaderBytes);

// The lock of chunks and spans. Taken inside a thread's lock, never the other way round.
extern constinit Lock central;
// Newest first; never shrinks, so it may be walked without a lock.
extern constinit std::atomic<Chunk*> all_chunks;

// A run of `slots` slots, its memory aligned to `alignment`; its descriptor has start, slots and
// nothing else set, and every slot resolves to it. `zeroed` tells whether the memory reads as zero.
// Slot 0, which is shorter, is only given where `short_slot` allows it. nullptr: no memory.
Slab* take_run(unsigned slots, size_t alignment, bool short_slot, bool* zeroed);
// Who has the run has `bytes` of it. What others left resident behind them is in no account until
// it is free: if it is more than `most` it goes back, and where the process has a limit, which is
// to hold for what is resident too, all of it does. True: nothing is resident behind them any more.
bool drop_pages_behind(Slab* run, size_t bytes, size_t most);
// Hardened, where a run of a guarded chunk is closed until then: its first `bytes` may be accessed,
// and what is behind them may not. False: the system refused.
bool open_run(Slab* run, size_t bytes);
// It was open to `old_bytes`, and is to be to `bytes`. False likewise, and it may be longer.
bool reopen_run(Slab* run, size_t old_bytes, size_t bytes);
// Hardened, what becomes of the pages of a run that is free.
enum class Closing : uint8_t {
  kGive,  // they go back at once, and it is clean
  kKeep,  // they wait for the purge, or who has memory there finds them (TALLY_ZERO=1: as kGive)
  kKept,  // likewise, and nobody may access the run already
  kGone,  // nobody may access the run already, and it is clean
};
// The run is free, its content may be lost. Its descriptor is kFree, with no owner, already.
void give_run(Slab* run, Closing closing = Closing::kGive);
// The run's last slots beyond `slots` are free.
void shrink_run(Slab* run, unsigned slots);
// Takes the slots behind the run too, if they are free. `zeroed` as above, of the new ones.
bool grow_run(Slab* run, unsigned slots, bool* zeroed);

// For want of address space: chunks with no run keep their first slot, where the descriptors are,
// and give back the rest, if their backend deals in pages. True if there was one.
bool hollow_chunks();
// Whether memory that is taken from the system now should have huge pages, as options.thp says.
bool wants_huge_pages();
// A part of the chunk goes back to the system.
void keep_pages_small(Chunk* chunk);

// How often slots came free. Any thread, without a lock.
uint64_t runs_given();
// Of free memory that waits for its purge. Any thread, without a lock.
size_t dirty_run_bytes();
// Chunks there are. Any thread, without a lock.
size_t chunk_count();
// Gives free memory that is older than options.purge_ms back to the system, or all of it. Returns
// the bytes. Takes the central lock, and lets go of it while the system works.
size_t purge_runs(uint64_t now, bool all);

// The running thread has in hand what is in no list, with no lock, while the system purges it. A
// fork in a signal handler is to leave that alone: the child too returns into the interrupted
// purge, and ends it.
class Purging {
 public:
  Purging() { count(1); }
  ~Purging() { count(-1); }
  Purging(const Purging&) = delete;
  Purging& operator=(const Purging&) = delete;
  static bool is_under_way() { return under_way_ != 0; }

 private:
  // In order, for a handler of this thread, whose own purge comes and goes within this one.
  static void count(int more) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    under_way_ = static_cast<uint8_t>(under_way_ + more);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  static inline constinit thread_local uint8_t under_way_ = 0;
};
// In a forked child, with none of its own under way: slots that others' purges had in hand are free
// again. Their pages may be resident or not.
void recover_slots();

// So much free memory may wait for its purge by time, of each sort: what is more goes back as it is
// freed. A program that goes idle after its peak has nobody else who would do it.
size_t most_waiting();

}  // namespace tally::core
