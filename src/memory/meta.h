// Memory for Tally's own tables. Objects are never unmapped, and come back only to the pool of
// their type: who holds a stale pointer to one still points to one, and checks under a lock whether
// it is the same.
#pragma once

#include <atomic>
#include <cstddef>

#include "base/gauge.h"
#include "os/lock.h"

namespace tally::core::meta {

// Zeroed, aligned to a cache line; nullptr if there is no memory. Any thread.
void* allocate(size_t bytes);
// `bytes` as allocated.
void release(void* p, size_t bytes);
// As allocate, for what is never released: not rounded.
void* allocate_forever(size_t bytes);
// Address space for metadata, from the system; none of it is charged. nullptr: there is none.
void* map(size_t bytes);
void unmap(void* p, size_t bytes);
// Calls look(start, end) for each stretch of that.
template <class Look>
void for_each_mapping(Look look);

// Metadata that lies elsewhere, in chunk headers and the address map. False: there may be no more.
bool charge(size_t bytes);
void uncharge(size_t bytes);

// Bytes of metadata in use, and bytes of pages that they take.
size_t used_bytes();
extern constinit Gauge footprint;
// Bytes that metadata and all tags take, against the limit of the process: what the root holds.
extern constinit Account process;

extern constinit Lock lock;

struct Mapping {
  char* start;
  char* end;
};
// Under `lock`. Neighbours are joined; what there is no room for is not known.
inline constexpr size_t kMappingsMax = 1024;
extern constinit Mapping mappings[kMappingsMax];
extern constinit size_t mapping_count;

template <class Look>
void for_each_mapping(Look look) {
  LockGuard guard(lock);
  for (size_t i = 0; i < mapping_count; ++i) look(mappings[i].start, mappings[i].end);
}

// Objects of one type, recycled. T has a `T* pool_next` that the pool may use while the object is
// in it, and is made ready by the caller: new objects are all zero, recycled ones as they were
// left.
template <class T>
class Pool {
 public:
  T* take() {
    {
      LockGuard guard(lock);
      if (T* object = free_) {
        free_ = object->pool_next;
        return object;
      }
    }
    return static_cast<T*>(allocate_forever(sizeof(T)));
  }
  void give(T* object) {
    LockGuard guard(lock);
    object->pool_next = free_;
    free_ = object;
  }

 private:
  T* free_ = nullptr;
};

}  // namespace tally::core::meta
