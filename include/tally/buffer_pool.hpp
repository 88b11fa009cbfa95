// Byte buffers that are used again, whose memory is a tag's. Header-only over <tally/tally.h>.
#pragma once

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <tally/memory.hpp>
#include <utility>

namespace tally {

struct BufferPoolStats {
  uint64_t gets;        // buffers ever handed out
  uint64_t hits;        // of them, those that had been kept: heap allocations that were avoided
  size_t kept_buffers;  // that wait to be used again
  size_t kept_bytes;    // their capacity; never above the bound
  size_t out_buffers;   // that are in somebody's hands
  size_t out_bytes;     // their capacity
};

namespace detail {

struct BufferBlock {
  void* data = nullptr;
  size_t capacity = 0;
  explicit operator bool() const noexcept { return data != nullptr; }
};

// What a pool shares with its buffers. The last of them frees it. Tally is never called with the
// mutex held: a pressure callback may want to trim.
class BufferStore {
 public:
  static BufferStore* create(Tag tag, size_t max_kept_bytes) {
    void* memory = detail::allocate(tag, sizeof(BufferStore), alignof(BufferStore));
    return ::new (memory) BufferStore(tag, max_kept_bytes);
  }

  // Null with errno as tally_malloc says.
  BufferBlock take(size_t size) noexcept {
    BufferBlock block;
    if (is_kept_size(size)) {
      block.capacity = std::bit_ceil(std::max(size, kSmallest));
      if ((block.data = take_kept(block.capacity)) != nullptr) return block;
    } else {
      block.capacity = std::max(size, sizeof(Kept));
    }
    block.data = tally_malloc(tag_.id(), block.capacity);
    // What no trimming can help is not worth the others.
    const bool may_help = size <= PTRDIFF_MAX && errno == ENOMEM;
    if (block.data == nullptr && may_help && trim() != 0) {
      block.data = tally_malloc(tag_.id(), block.capacity);
    }
    if (block.data != nullptr) {
      const std::lock_guard lock(mutex_);
      count_out(block.capacity);
    }
    return block;
  }

  void give(BufferBlock block) noexcept {
    Kept* unwanted = nullptr;
    bool is_last;
    {
      const std::lock_guard lock(mutex_);
      --stats_.out_buffers;
      stats_.out_bytes -= block.capacity;
      keep(block, unwanted);
      is_last = closed_ && stats_.out_buffers == 0;
    }
    free_all(unwanted);
    if (is_last) free_self();
  }

  size_t trim() noexcept {
    Kept* unwanted = nullptr;
    size_t bytes;
    {
      const std::lock_guard lock(mutex_);
      bytes = stats_.kept_bytes;
      unlink_all(unwanted);
    }
    free_all(unwanted);
    return bytes;
  }

  // The pool is gone.
  void close() noexcept {
    Kept* unwanted = nullptr;
    bool is_last;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      unlink_all(unwanted);
      is_last = stats_.out_buffers == 0;
    }
    free_all(unwanted);
    if (is_last) free_self();
  }

  BufferPoolStats stats() const noexcept {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  Tag tag() const noexcept { return tag_; }
  size_t max_kept_bytes() const noexcept { return max_kept_; }

 private:
  // A buffer that is kept holds this.
  struct Kept {
    Kept* next;
  };
  struct Class {
    Kept* first = nullptr;
    uint64_t asked_at = 0;  // the number of the last get that wanted one
  };
  // Classes are the powers of two from here on, as far as the bound reaches.
  static constexpr size_t kSmallest = 64;
  static constexpr size_t kClasses = 64 - std::countr_zero(kSmallest);

  BufferStore(Tag tag, size_t max_kept_bytes) noexcept : tag_(tag), max_kept_(max_kept_bytes) {}

  static size_t class_of(size_t capacity) noexcept {
    return static_cast<size_t>(std::countr_zero(capacity) - std::countr_zero(kSmallest));
  }
  // Of what is too large to be kept, as much is allocated as was asked for.
  bool is_kept_size(size_t size) const noexcept {
    return size <= std::bit_floor(max_kept_) && max_kept_ >= kSmallest;
  }

  void* take_kept(size_t capacity) noexcept {
    const std::lock_guard lock(mutex_);
    Class& of = classes_[class_of(capacity)];
    of.asked_at = ++asked_;
    Kept* kept = of.first;
    if (kept == nullptr) return nullptr;
    of.first = kept->next;
    --stats_.kept_buffers;
    stats_.kept_bytes -= capacity;
    ++stats_.hits;
    count_out(capacity);
    return kept;
  }

  // The mutex is held in what follows.
  void count_out(size_t capacity) noexcept {
    ++stats_.gets;
    ++stats_.out_buffers;
    stats_.out_bytes += capacity;
  }

  // Of a size that was asked for longer ago less is kept: so the pool follows what the program
  // does.
  void keep(BufferBlock block, Kept*& unwanted) noexcept {
    auto* kept = ::new (block.data) Kept{nullptr};
    if (!closed_ && is_kept_size(block.capacity)) {
      Class& of = classes_[class_of(block.capacity)];
      while (stats_.kept_bytes > max_kept_ - block.capacity) {
        const size_t oldest = oldest_class();
        if (classes_[oldest].asked_at >= of.asked_at) break;
        unlink(oldest, unwanted);
      }
      if (stats_.kept_bytes <= max_kept_ - block.capacity) {
        push(of.first, kept);
        ++stats_.kept_buffers;
        stats_.kept_bytes += block.capacity;
        return;
      }
    }
    push(unwanted, kept);
  }

  // Of those that have one; there is one.
  size_t oldest_class() const noexcept {
    size_t oldest = kClasses;
    for (size_t n = 0; n < kClasses; ++n) {
      if (classes_[n].first == nullptr) continue;
      if (oldest == kClasses || classes_[n].asked_at < classes_[oldest].asked_at) oldest = n;
    }
    return oldest;
  }

  void unlink(size_t n, Kept*& unwanted) noexcept {
    Kept* kept = classes_[n].first;
    classes_[n].first = kept->next;
    push(unwanted, kept);
    --stats_.kept_buffers;
    stats_.kept_bytes -= kSmallest << n;
  }
  void unlink_all(Kept*& unwanted) noexcept {
    for (size_t n = 0; n < kClasses; ++n) {
      while (classes_[n].first != nullptr) unlink(n, unwanted);
    }
  }
  // Until here.

  static void push(Kept*& first, Kept* kept) noexcept {
    kept->next = first;
    first = kept;
  }
  static void free_all(Kept* first) noexcept {
    while (first != nullptr) tally_free(std::exchange(first, first->next));
  }
  void free_self() noexcept {
    this->~BufferStore();
    tally_free(this);
  }

  const Tag tag_;
  const size_t max_kept_;
  mutable std::mutex mutex_;
  Class classes_[kClasses];
  uint64_t asked_ = 0;
  BufferPoolStats stats_ = {};
  bool closed_ = false;
};

}  // namespace detail

// A buffer in somebody's hands; it goes back when this is destroyed. One that is moved from, or
// that try_get could not get, is empty: it tests false, and its size is 0. One thread at a time.
class Buffer {
 public:
  Buffer() noexcept = default;
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() { reset(); }

  explicit operator bool() const noexcept { return static_cast<bool>(block_); }
  // Aligned as malloc aligns.
  std::byte* data() const noexcept { return static_cast<std::byte*>(block_.data); }
  // What was asked for, and what there is room for.
  size_t size() const noexcept { return size_; }
  size_t capacity() const noexcept { return block_.capacity; }
  std::span<std::byte> span() const noexcept { return {data(), size_}; }
  // Shorter, or longer within the capacity: for who learns later how much there is.
  void resize(size_t size) noexcept {
    assert(size <= capacity());
    size_ = size;
  }
  // Gives it back now.
  void reset() noexcept {
    if (block_) store_->give(block_);
    block_ = {};
    size_ = 0;
  }

 private:
  friend class BufferPool;
  Buffer(detail::BufferStore* store, detail::BufferBlock block, size_t size) noexcept
      : store_(store), block_(block), size_(size) {}

  void swap(Buffer& other) noexcept {
    std::swap(store_, other.store_);
    std::swap(block_, other.block_);
    std::swap(size_, other.size_);
  }

  detail::BufferStore* store_ = nullptr;
  detail::BufferBlock block_;
  size_t size_ = 0;
};

// Keeps buffers that came back, by size class (powers of two from 64 bytes on), for the next who
// asks for one: at most so many bytes. When that is full, those of sizes that nobody asked for
// lately make room. A buffer is kept if its capacity, the size rounded up to a power of two, is
// within the bound; of a retired tag what is kept is handed out still. May be used from any thread;
// a get or a return that finds what it needs is a lock and a list's pop or push.
//
// Buffers may outlive the pool: they stay as they are, and are freed instead of kept when they go.
// Not for the child of a fork in a program with threads: a lock may be held there for ever.
class BufferPool {
 public:
  // max_kept_bytes 0: std::invalid_argument. A tag that is none or retired: std::bad_alloc, EINVAL.
  BufferPool(Tag tag, size_t max_kept_bytes) {
    if (max_kept_bytes == 0) {
      detail::raise<std::invalid_argument>("tally::BufferPool that keeps at most 0 bytes");
    }
    store_ = detail::BufferStore::create(tag, max_kept_bytes);
  }
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  ~BufferPool() { store_->close(); }

  // A buffer of `size` bytes, 0 too, with any content: that of who had it before. Where the tag may
  // have no more, what is kept is freed first; then failures are as in <tally/memory.hpp>.
  [[nodiscard]] Buffer get(size_t size) {
    return Buffer(store_, detail::allocate_by([&] { return store_->take(size); }), size);
  }
  // The same, but an empty one with errno as tally_malloc says instead of handler and exception.
  [[nodiscard]] Buffer try_get(size_t size) noexcept {
    const detail::BufferBlock block = store_->take(size);
    return block ? Buffer(store_, block, size) : Buffer();
  }

  // Frees what is kept, and returns its bytes. A pressure callback may do so.
  size_t trim() noexcept { return store_->trim(); }

  BufferPoolStats stats() const noexcept { return store_->stats(); }
  size_t max_kept_bytes() const noexcept { return store_->max_kept_bytes(); }
  Tag tag() const noexcept { return store_->tag(); }

 private:
  detail::BufferStore* store_;
};

}  // namespace tally
