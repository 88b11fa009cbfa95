// The numbers that shape the heap, and the facts they rest on. Nothing here is tuned at run time.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef TALLY_CHECKS
#define TALLY_CHECKS 0
#endif
#ifndef TALLY_HARDENED
#define TALLY_HARDENED 0
#endif

namespace tally::core {

// ThreadSanitizer follows memory through libc's mmap and munmap, and counters through atomics.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

// Check the slab's equation at every slow step. A build option: it makes slow paths linear in the
// slab.
inline constexpr bool kChecks = TALLY_CHECKS;

// libtally-hardened.so: see memory/hardened.h. Of each block of a slab the last word is not the
// program's then.
inline constexpr bool kHardened = TALLY_HARDENED;
inline constexpr unsigned kSealBytes = kHardened ? 8 : 0;

// A counter is bumped by one `add mem` instruction.
#if defined(__x86_64__)
inline constexpr bool kSingleInstructionCounters = !kThreadSanitizer;
#else
inline constexpr bool kSingleInstructionCounters = false;
#endif

inline constexpr size_t KiB = 1024;
inline constexpr size_t MiB = 1024 * KiB;

// Chunks come from the backend; slots are what the address map tells apart.
inline constexpr unsigned kSlotShift = 16;
inline constexpr size_t kSlotBytes = size_t{1} << kSlotShift;
inline constexpr unsigned kSlotsPerChunk = 64;
inline constexpr size_t kChunkBytes = kSlotBytes * kSlotsPerChunk;
// The chunk's header stands in its first slot; the rest of that slot serves as a shorter slab.
inline constexpr size_t kChunkHeaderBytes = 16 * KiB;

// Blocks up to kSmallMax are served by the fast path, up to kMediumMax from slabs.
inline constexpr size_t kSmallMax = 8 * KiB;
inline constexpr size_t kMediumMax = 64 * KiB;
// A slab has room for enough blocks that a step of the slow path is worth its cost: one slot for
// blocks of up to 1 KiB, four for the rest of the small ones, else eight.
inline constexpr size_t kOneSlotMax = 1 * KiB;
inline constexpr unsigned kSmallSlots = 4;
inline constexpr unsigned kMediumSlots = 8;
// Large blocks up to this are runs of slots in a chunk; larger ones are mappings of their own.
inline constexpr size_t kRunMax = 1 * MiB;

// Never-used blocks are linked and handed out so many bytes at a time: one page of a cold slab is
// touched, not all. Of blocks from half a page on, some at once.
inline constexpr size_t kBatchBytes = 4 * KiB;
inline constexpr size_t kLongBatchBytes = 16 * KiB;
// A slab that has no never-used blocks left is allocated from while this part of it is free.
inline constexpr unsigned kWakeShift = 3;
// Blocks of other threads' slabs that a thread frees go back together, so many bytes of a class at
// a time. (To allocate from them first was measured: up to 1.8 times slower on threads that swap
// blocks, as lists become short and neighbours in a cache line come to belong to two threads.)
inline constexpr size_t kReturnBytes = (kHardened ? 16 : 8) * KiB;
// And so many blocks at least: hardened, all that are freed go that way, the older half of them
// each time, as it is to be long before memory is used again.
inline constexpr unsigned kReturnLeast = kHardened ? 4 : 0;

// Hardened: of the blocks of a slab that are free so many at most stay when others are taken.
inline constexpr unsigned kStayMost = 16;

inline constexpr size_t kCacheLine = 64;
inline constexpr size_t kMaxTags = 65535;
inline constexpr unsigned kMaxScopes = 255;

static_assert(kChunkBytes == 4 * MiB);
static_assert(sizeof(void*) == 8,
              "the address map and the packed remote list assume 64-bit pointers");

}  // namespace tally::core
