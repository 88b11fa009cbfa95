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
// Metadata that lies elsewhere, in chunk headers and the address map. False: there may be no more.
bool charge(size_t bytes);
void uncharge(size_t bytes);

// Bytes of metadata in use, and bytes of pages that they take.
size_t used_bytes();
extern constinit Gauge footprint;
// Bytes that metadata and all tags take, against the limit of the process: what the root holds.
extern constinit Account process;

extern constinit Lock lock;

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
