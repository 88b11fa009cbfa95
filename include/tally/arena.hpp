// Arenas as C++ uses them: a std::pmr::memory_resource, scopes, objects. Header-only over
// <tally/tally.h>, which says what an arena does; works without exceptions and RTTI.
#pragma once

#include <cerrno>
#include <cstddef>
#include <memory_resource>
#include <new>
#include <tally/memory.hpp>
#include <type_traits>
#include <utility>

namespace tally {

// As tally_arena_options, where 0 is said what it means.
struct ArenaOptions {
  size_t first_bytes = 0;
  size_t most_bytes = 0;
  size_t keep_bytes = 0;
};

// Hands out memory of a tag by moving a pointer, and takes it back all at once. Containers on it
// give nothing back while they live, and must not be used after a reset, or rewind, of what they
// hold; their destructors may still run, as deallocate does nothing.
//
// For one thread at a time. Destroyed, it gives everything back.
class Arena final : public std::pmr::memory_resource {
 public:
  // Without a tag it is the one that the thread uses. Throws std::bad_alloc when there is no
  // memory, and when the tag takes no blocks or the options are wrong, which errno tells; without
  // exceptions, std::terminate.
  explicit Arena(Tag tag = Tag::current(), ArenaOptions options = {})
      : Arena(std::nothrow, tag, options) {
    if (arena_ == nullptr) detail::raise<std::bad_alloc>();
  }
  // The same, but could it not be made, it tests false, with errno as tally_arena_create says; then
  // it may be destroyed and nothing else.
  Arena(std::nothrow_t, Tag tag = Tag::current(), ArenaOptions options = {}) noexcept {
    tally_arena_options all = {sizeof all, options.first_bytes, options.most_bytes,
                               options.keep_bytes};
    arena_ = tally_arena_create(tag.id(), &all);
  }
  ~Arena() override { tally_arena_destroy(arena_); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  explicit operator bool() const noexcept { return arena_ != nullptr; }
  // For the C interface; still this object's.
  tally_arena* get() const noexcept { return arena_; }

  // tally_arena_alloc: nullptr with errno. Neither a virtual call nor one at all, as a rule.
  [[nodiscard]] void* alloc(size_t size, size_t alignment = alignof(std::max_align_t)) noexcept {
    return tally_arena_alloc(arena_, size, alignment);
  }
  // A new object, whose destructor is never called. Throws std::bad_alloc as allocate does, and
  // what the constructor throws.
  template <class T, class... Args>
  T* make(Args&&... args) {
    static_assert(std::is_trivially_destructible_v<T>,
                  "an arena calls no destructors: T must not need one");
    return ::new (take(sizeof(T), alignof(T))) T(std::forward<Args>(args)...);
  }

  // tally_arena_mark and _rewind: TALLY_MARK_NONE, or false, with errno.
  [[nodiscard]] tally_mark mark() noexcept { return tally_arena_mark(arena_); }
  bool rewind(tally_mark mark) noexcept { return tally_arena_rewind(arena_, mark) == 0; }
  void reset() noexcept { tally_arena_reset(arena_); }

  tally_arena_stats_t stats() const noexcept {
    tally_arena_stats_t stats = {};
    stats.size = sizeof stats;
    tally_arena_stats(arena_, &stats);
    return stats;
  }

  class Scope;

 private:
  void* take(size_t size, size_t alignment) {
    void* p = tally_arena_bump(arena_, size, alignment);
    return __builtin_expect(p != nullptr, 1) ? p : take_slow(size, alignment);
  }
  __attribute__((noinline, cold)) void* take_slow(size_t size, size_t alignment) {
    return detail::allocate_by([&] { return alloc(size, alignment); });
  }

  // std::pmr's allocate and deallocate.
  void* do_allocate(size_t size, size_t alignment) override { return take(size, alignment); }
  void do_deallocate(void*, size_t, size_t) override {}
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  tally_arena* arena_;
};

// What is allocated from the arena while it lives is taken back when it ends. Scopes nest, and end
// in reverse order. After a reset, or a rewind to before it, there is nothing left to do. Could the
// mark not be set, for lack of memory, nothing is taken back: active() tells.
class Arena::Scope {
 public:
  explicit Scope(Arena& arena) noexcept : arena_(arena), mark_(arena.mark()) {}
  ~Scope() {
    const int error = errno;
    if (active()) arena_.rewind(mark_);
    errno = error;
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  bool active() const noexcept { return mark_ != TALLY_MARK_NONE; }

 private:
  Arena& arena_;
  const tally_mark mark_;
};

}  // namespace tally
