// Pools of objects of one type, whose memory is a tag's. Needs Boost.Pool's headers (Debian:
// libboost-dev); otherwise header-only over <tally/tally.h>.
#pragma once

#include <algorithm>
#include <bit>
#include <boost/pool/simple_segregated_storage.hpp>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <tally/memory.hpp>
#include <utility>

namespace tally {

// Makes Boost.Pool draw on a tag: boost::object_pool<T, BoostUserAllocator<NamedTag<"nodes">>>, and
// likewise boost::pool. Boost calls static functions, so the tag is a type: NamedTag, or any with a
// static function tag(). malloc: null, with errno as tally_malloc says.
template <class Source>
struct BoostUserAllocator {
  using size_type = size_t;
  using difference_type = ptrdiff_t;

  static char* malloc(size_type bytes) noexcept {
    return static_cast<char*>(tally_malloc(Source::tag().id(), bytes));
  }
  static void free(char* block) noexcept { tally_free(block); }
};

// The lock of a pool that one thread uses at a time.
struct NoLock {
  void lock() noexcept {}
  void unlock() noexcept {}
};

struct ObjectPoolStats {
  size_t live;        // objects that are out
  size_t high_water;  // the most that there ever were at one time
  size_t capacity;    // objects for which there is memory
  size_t bytes;       // that the pool has from its tag
};

// Objects of one type, at most so many at one time, in blocks that hold many each: Boost.Pool's
// segregated storage, so that construct and destroy are a list's pop and push.
//
// ObjectPool<T> is for one thread at a time, ObjectPool<T, std::mutex> for any number. The lock
// (which the child of a fork in a program with threads may find held for ever) costs more than
// Tally's operator new, which needs none: that form is for the bound, and for
// objects that lie together, not for speed. No form holds the lock, or is in the middle of
// anything, while T's functions or Tally's run: objects may use the pool that they are in, and a
// pressure callback may trim it.
//
// Destroyed while objects are out: with asserts on the program ends there, and says so. Else their
// blocks are left as they are, to stay readable for who still has a pointer, and counted under the
// tag for who looks for the leak; their destructors do not run, and to destroy one of them later is
// undefined. (To find what is out, as boost::object_pool does, is a sort of all that is free.)
template <class T, class Lock = NoLock>
class ObjectPool {
 public:
  struct Destroyer {
    ObjectPool* pool;
    void operator()(T* object) const noexcept { pool->destroy(object); }
  };
  using Handle = std::unique_ptr<T, Destroyer>;

  // Takes no memory yet. max_objects 0: std::invalid_argument; SIZE_MAX is no bound.
  ObjectPool(Tag tag, size_t max_objects)
      : tag_(tag), max_objects_(max_objects), block_slots_(std::min(max_objects, kMostSlots)) {
    if (max_objects == 0) {
      detail::raise<std::invalid_argument>("tally::ObjectPool of at most 0 objects");
    }
  }
  ObjectPool(const ObjectPool&) = delete;
  ObjectPool& operator=(const ObjectPool&) = delete;
  ~ObjectPool() {
    assert(live_ == 0 && "tally::ObjectPool destroyed with objects out");
    trim();
  }

  // T(args...). Null with errno: ENOSPC (max_objects are out), ENOMEM (the tag may have no more),
  // EINVAL (no such tag, or retired; but of a pool without blocks the id may be another's by then).
  // ENOSPC may come early while other threads' calls are about to fail. What T's constructor throws
  // is passed on, and the room is free again.
  template <class... Args>
  [[nodiscard]] T* construct(Args&&... args) {
    void* slot = take();
    if (slot == nullptr) return nullptr;
    SlotGuard guard{this, slot};
    T* object = ::new (slot) T(std::forward<Args>(args)...);
    guard.slot = nullptr;
    return object;
  }

  // The same, destroyed by its handle, which must go before the pool; an empty one for null.
  template <class... Args>
  [[nodiscard]] Handle make(Args&&... args) {
    return Handle(construct(std::forward<Args>(args)...), Destroyer{this});
  }

  // ~T(), and its room is free for the next. Must be of this pool; null is ignored.
  void destroy(T* object) noexcept {
    if (object == nullptr) return;
    assert(block_of(object)->pool == this && "an object of another pool");
    object->~T();
    give(object);
  }

  // Gives the blocks in which no object is back to the tag; returns their bytes. Cost: twice the
  // list of all free room.
  size_t trim() noexcept {
    Block* given;
    {
      const std::lock_guard lock(lock_);
      given = detach_free_blocks();
    }
    size_t bytes = 0;
    while (given != nullptr) {
      Block* next = given->next;
      tally_free(given);
      bytes += block_bytes();
      given = next;
    }
    return bytes;
  }

  ObjectPoolStats stats() const noexcept {
    const std::lock_guard lock(lock_);
    return {live_, high_water_, blocks_ * block_slots_, blocks_ * block_bytes()};
  }
  size_t max_objects() const noexcept { return max_objects_; }
  Tag tag() const noexcept { return tag_; }

 private:
  // Stands at the start of each block. A block is aligned to kBlockAlign and no larger, so that an
  // object's address tells its block.
  struct Block {
    ObjectPool* pool;
    Block* next;
    size_t free_slots;  // used by trim alone
  };
  struct SlotGuard {
    ObjectPool* pool;
    void* slot;
    ~SlotGuard() {
      if (slot != nullptr) pool->give(slot);
    }
  };
  using Storage = boost::simple_segregated_storage<size_t>;

  static constexpr size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }
  // The storage keeps a pointer in each free slot.
  static constexpr size_t kSlotAlign = std::max(alignof(T), alignof(void*));
  static constexpr size_t kSlotBytes = round_up(std::max(sizeof(T), sizeof(void*)), kSlotAlign);
  static constexpr size_t kFirstSlot = round_up(sizeof(Block), kSlotAlign);
  // From 4 KiB on, as 32 objects need, up to 64 KiB; and for 8 large ones.
  static constexpr size_t kKiB = 1024;
  static constexpr size_t kBlockAlign =
      std::max(std::bit_ceil(kFirstSlot + 8 * kSlotBytes),
               std::clamp(std::bit_ceil(kFirstSlot + 32 * kSlotBytes), 4 * kKiB, 64 * kKiB));
  static constexpr size_t kMostSlots = kBlockAlign > 64 * kKiB
                                           ? 8
                                           : (kBlockAlign - kFirstSlot) / kSlotBytes;

  static Block* block_of(void* slot) noexcept {
    return reinterpret_cast<Block*>(reinterpret_cast<uintptr_t>(slot) & ~(kBlockAlign - 1));
  }

  size_t block_bytes() const noexcept { return kFirstSlot + block_slots_ * kSlotBytes; }

  void* take() noexcept {
    std::unique_lock lock(lock_);
    if (live_ == max_objects_) {
      errno = ENOSPC;
      return nullptr;
    }
    ++live_;
    if (slots_.empty()) {
      lock.unlock();
      void* memory = tally_aligned_alloc(tag_.id(), kBlockAlign, block_bytes());
      lock.lock();
      if (memory != nullptr) {
        add_block(memory);
      } else if (slots_.empty()) {  // nor did another thread give room back
        --live_;
        return nullptr;
      }
    }
    high_water_ = std::max(high_water_, live_);
    return (slots_.malloc)();
  }

  void give(void* slot) noexcept {
    const std::lock_guard lock(lock_);
    (slots_.free)(slot);
    --live_;
  }

  // The lock is held in what follows.
  void add_block(void* memory) noexcept {
    first_block_ = ::new (memory) Block{this, first_block_, 0};
    ++blocks_;
    slots_.add_block(static_cast<char*>(memory) + kFirstSlot, block_slots_ * kSlotBytes,
                     kSlotBytes);
  }

  // A list of the blocks whose slots are all free. The others' slots keep their order.
  Block* detach_free_blocks() noexcept {
    for (Block* block = first_block_; block != nullptr; block = block->next) block->free_slots = 0;
    Storage all;
    while (!slots_.empty()) {
      void* slot = (slots_.malloc)();
      ++block_of(slot)->free_slots;
      (all.free)(slot);
    }
    while (!all.empty()) {
      void* slot = (all.malloc)();
      if (block_of(slot)->free_slots != block_slots_) (slots_.free)(slot);
    }
    Block* detached = nullptr;
    for (Block** link = &first_block_; *link != nullptr;) {
      Block* block = *link;
      if (block->free_slots != block_slots_) {
        link = &block->next;
        continue;
      }
      *link = block->next;
      block->next = detached;
      detached = block;
      --blocks_;
    }
    return detached;
  }

  const Tag tag_;
  const size_t max_objects_;
  const size_t block_slots_;
  [[no_unique_address]] mutable Lock lock_;
  Storage slots_;  // the free ones
  Block* first_block_ = nullptr;
  size_t blocks_ = 0;
  size_t live_ = 0;  // out, or about to be
  size_t high_water_ = 0;
};

}  // namespace tally
