#include "memory/meta.h"

#include <bit>

#include "backend/backend.h"
#include "base/config.h"
#include "base/math.h"
#include "memory/guard.h"
#include "os/os.h"

namespace tally::core::meta {

constinit Gauge footprint;
constinit Account process;

namespace {

constexpr size_t kRegionBytes = 256 * KiB;
constexpr unsigned kBuckets = 32;

struct FreeNode {
  FreeNode* next;
};

// All under `lock`.
constinit char* g_next = nullptr;
constinit char* g_end = nullptr;
constinit FreeNode* g_free[kBuckets] = {};
constinit std::atomic<size_t> g_used{0};

bool add_footprint(size_t bytes) {
  uint64_t held;
  // Few, and needed to unwind from a failure as well.
  if (!process.take(bytes, true, &held)) return false;
  process.note_peak(held);
  footprint.add(bytes);
  return true;
}

void sub_footprint(size_t bytes) {
  footprint.sub(bytes);
  process.give(bytes);
}

// What may be released is rounded to a power of two, so that it fits whatever comes after it.
unsigned bucket_of(size_t bytes) { return static_cast<unsigned>(std::bit_width(bytes - 1)); }

size_t rounded(size_t bytes) { return max_of(std::bit_ceil(bytes), kCacheLine); }

}  // namespace

constinit Lock lock;
constinit Mapping mappings[kMappingsMax] = {};
constinit size_t mapping_count = 0;

namespace {

// Lock held. The system places mappings side by side, so the list is short.
void note_mapping(char* start, char* end) {
  for (size_t i = 0; i < mapping_count; ++i) {
    Mapping& one = mappings[i];
    if (one.start != end && one.end != start) continue;
    if (one.start == end) {
      one.start = start;
    } else {
      one.end = end;
    }
    return;
  }
  if (mapping_count < kMappingsMax) mappings[mapping_count++] = {start, end};
}

// Lock held. From the middle of one, a second may become of it.
void forget_mapping(const char* start, const char* end) {
  for (size_t i = 0; i < mapping_count; ++i) {
    Mapping& one = mappings[i];
    if (start < one.start || end > one.end) continue;
    const Mapping behind = {one.start + (end - one.start), one.end};
    one.end = one.start + (start - one.start);
    if (one.start == one.end) one = mappings[--mapping_count];
    if (behind.start != behind.end) note_mapping(behind.start, behind.end);
    return;
  }
}

// Lock held. False: the system refused, and it stays.
bool give_mapping(void* p, size_t bytes) {
  if (!backend::give(&backend::os, p, bytes)) return false;
  auto* start = static_cast<char*>(p);
  forget_mapping(start, start + bytes);
  return true;
}

// Lock held.
char* take_mapping(size_t bytes) {
  void* taken = backend::take(&backend::os, bytes, os::page_size());
  auto* start = static_cast<char*>(taken);
  if (start != nullptr) note_mapping(start, start + bytes);
  return start;
}

// Lock held.
void* carve(size_t bytes) {
  if (static_cast<size_t>(g_end - g_next) < bytes) {
    char* region = take_mapping(kRegionBytes);
    if (region == nullptr) return nullptr;
    g_next = region + guard::bytes();
    g_end = region + kRegionBytes - guard::bytes();
    if constexpr (kHardened) {
      os::protect(region, guard::bytes());
      os::protect(g_end, guard::bytes());
    }
  }
  char* p = g_next;
  size_t page = os::page_size();
  if (!add_footprint(round_up(address(p + bytes), page) - round_up(address(p), page))) {
    return nullptr;
  }
  g_next += bytes;
  g_used.fetch_add(bytes, std::memory_order_relaxed);
  return p;
}
}  // namespace

void* map(size_t bytes) {
  LockGuard guard(lock);
  return take_mapping(bytes);
}

void unmap(void* p, size_t bytes) {
  LockGuard guard(lock);
  give_mapping(p, bytes);
}

void* allocate_forever(size_t bytes) {
  LockGuard guard(lock);
  return carve(round_up(bytes, kCacheLine));
}

void* allocate(size_t bytes) {
  bytes = rounded(bytes);
  LockGuard guard(lock);
  if (bytes > kRegionBytes / 4) {
    bytes = round_up(bytes, os::page_size());
    if (!charge(bytes)) return nullptr;
    void* own = take_mapping(bytes);
    if (own == nullptr) uncharge(bytes);
    return own;
  }
  if (FreeNode*& head = g_free[bucket_of(bytes)]; head != nullptr) {
    FreeNode* node = head;
    head = node->next;
    __builtin_memset(static_cast<void*>(node), 0, bytes);
    g_used.fetch_add(bytes, std::memory_order_relaxed);
    return node;
  }
  return carve(bytes);
}

void release(void* p, size_t bytes) {
  bytes = rounded(bytes);
  LockGuard guard(lock);
  if (bytes > kRegionBytes / 4) {
    bytes = round_up(bytes, os::page_size());
    if (give_mapping(p, bytes)) uncharge(bytes);
    return;
  }
  auto* node = static_cast<FreeNode*>(p);
  node->next = g_free[bucket_of(bytes)];
  g_free[bucket_of(bytes)] = node;
  g_used.fetch_sub(bytes, std::memory_order_relaxed);
}

bool charge(size_t bytes) {
  if (!add_footprint(bytes)) return false;
  g_used.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

void uncharge(size_t bytes) {
  g_used.fetch_sub(bytes, std::memory_order_relaxed);
  sub_footprint(bytes);
}

size_t used_bytes() { return g_used.load(std::memory_order_relaxed); }

}  // namespace tally::core::meta
