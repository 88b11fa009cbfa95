// Standard C++ on a tag: an allocator for containers, a memory resource, an owning pointer.
// Header-only over <tally/tally.h>.
//
// What they allocate belongs to the tag that they name, whatever scope is open, and goes back by
// tally_free. They may be used from any thread, and cost what tally_malloc and tally_free do.
//
// Failure: where the tag may have no more, the new_handler is called and it is tried again, as
// operator new does; without a handler std::bad_alloc is thrown, with errno ENOMEM. A tag that is
// none, or retired, is std::bad_alloc with errno EINVAL at once, as no handler can help. Compiled
// with -fno-exceptions, std::terminate is called where an exception would be thrown. (All files of
// a program must be compiled alike in that, and as to -frtti.)
//
// A Tag is an id: that of a retired tag of which nothing is left may become another's.
#pragma once

#include <tally/tally.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <memory_resource>
#include <new>
#include <tally/tally.hpp>
#include <type_traits>
#include <utility>

namespace tally {

namespace detail {

template <class Exception, class... Args>
[[noreturn]] inline void raise([[maybe_unused]] Args&&... args) {
#if defined(__cpp_exceptions)
  throw Exception(std::forward<Args>(args)...);
#else
  std::terminate();
#endif
}

// Null with errno as tally_malloc and tally_aligned_alloc say.
inline void* try_allocate(Tag tag, size_t bytes, size_t alignment) noexcept {
  if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__ && std::has_single_bit(alignment)) {
    return tally_malloc(tag.id(), bytes);
  }
  return tally_aligned_alloc(tag.id(), alignment, bytes);
}

// Calls `attempt` until it gives something else than null, with what happens at a failure as above.
template <class Attempt>
inline auto allocate_by(Attempt attempt) {
  for (;;) {
    if (auto p = attempt()) [[likely]]
      return p;
    const std::new_handler handler = errno == EINVAL ? nullptr : std::get_new_handler();
    if (handler == nullptr) raise<std::bad_alloc>();
    handler();
  }
}

inline void* allocate(Tag tag, size_t bytes, size_t alignment) {
  return allocate_by([=] { return try_allocate(tag, bytes, alignment); });
}

// Whether this is a path that tally_tag_create takes.
constexpr bool is_tag_path(const char* path) noexcept {
  const char* at = path;
  bool after_name = true;
  for (; *at != 0; ++at) {
    if (static_cast<unsigned char>(*at) < 0x20 || *at == 0x7f) return false;
    if (*at == '/' && at != path && !after_name) return false;
    after_name = *at != '/';
  }
  return at - path <= TALLY_TAG_PATH_MAX - (*path != '/') && (after_name || at - path == 1);
}

}  // namespace detail

// ---- Where the tag comes from: a type with a function tag()

// A tag that is chosen as the program runs.
class RunTimeTag {
 public:
  RunTimeTag() noexcept : tag_(Tag::current()) {}
  constexpr explicit RunTimeTag(Tag tag) noexcept : tag_(tag) {}
  constexpr Tag tag() const noexcept { return tag_; }

 private:
  Tag tag_;
};

// A path as a template's argument.
template <size_t n>
struct TagPath {
  consteval TagPath(const char (&path)[n]) { std::copy_n(path, n, text); }
  char text[n];
};

// The tag of a path that is known as the program is compiled: NamedTag<"cache/blocks">. It takes no
// room where it is stored. The tag is made at its first use; such a tag must not be retired.
template <TagPath path>
struct NamedTag {
  static_assert(detail::is_tag_path(path.text), "see tally_tag_create");

  // Invalid, with errno as tally_tag_create says, if it cannot be made; the next call tries again.
  // Cost: a load.
  static Tag tag() noexcept {
    tally_tag id = id_.load(std::memory_order_acquire);
    if (id == TALLY_TAG_NONE) [[unlikely]] {
      id = tally_tag_create(path.text);  // the same id for whoever comes at the same time
      id_.store(id, std::memory_order_release);
    }
    return Tag(id);
  }

 private:
  static inline constinit std::atomic<tally_tag> id_{TALLY_TAG_NONE};
};

// ---- Allocator

// For containers: std::vector<int, Allocator<int>> v(tag), or with the tag in the type, and then
// as small as std::allocator: std::vector<int, Allocator<int, NamedTag<"cache/blocks">>> v.
//
// A container keeps its tag for life, and a block keeps its own. Nothing that is assigned to a
// container, copied, moved or swapped, changes the tag under which it allocates from then on; so a
// member's tag is decided where the member is constructed. As any block of Tally's can be freed
// whatever its tag, all allocators are equal: moving and swapping are O(1) between containers of
// different tags, lists may be spliced and nodes handed over, and the blocks that change hands are
// counted under the tag that they were made under until they are freed.
//
// Without a tag it is the one that the thread uses, Tag::current(), at the time of construction;
// and so it is in the copy of a container, which is made for whoever copies. A container that is
// made by a move has the tag of the one that it was made of.
template <class T, class Source = RunTimeTag>
class Allocator {
 public:
  using value_type = T;
  using propagate_on_container_copy_assignment = std::false_type;
  using propagate_on_container_move_assignment = std::false_type;
  using propagate_on_container_swap = std::false_type;
  using is_always_equal = std::true_type;

  Allocator() noexcept = default;
  template <class S = Source>
  requires std::same_as<S, RunTimeTag> Allocator(Tag tag)
  noexcept  // NOLINT(google-explicit-constructor): so that a container takes one
      : source_(tag) {}
  template <class U>
  Allocator(const Allocator<U, Source>& other) noexcept : source_(other.source_) {}

  // Room for n objects, aligned for T whatever its alignment. Over PTRDIFF_MAX bytes:
  // std::bad_array_new_length; other failures as above.
  [[nodiscard]] T* allocate(size_t n) {
    if (n > size_t{PTRDIFF_MAX} / sizeof(T)) [[unlikely]] {
      detail::raise<std::bad_array_new_length>();
    }
    return static_cast<T*>(detail::allocate(tag(), n * sizeof(T), alignof(T)));
  }
  void deallocate(T* p, size_t) noexcept { tally_free(p); }

  Allocator select_on_container_copy_construction() const noexcept { return Allocator(); }
  Tag tag() const noexcept { return source_.tag(); }

  template <class U>
  friend bool operator==(const Allocator&, const Allocator<U, Source>&) noexcept {
    return true;
  }

 private:
  template <class U, class S>
  friend class Allocator;
  [[no_unique_address]] Source source_;
};

// ---- MemoryResource

// For the containers of std::pmr: tally::MemoryResource cache(tag); std::pmr::string s(&cache);
// A MemoryResource equals each other one, whatever its tag, for the reason given above: moving
// between containers that use different ones is O(1), and the blocks keep their tags. (Compiled
// with -fno-rtti it equals itself alone: elements are then moved one by one, and such containers
// must not be swapped.) An alignment that is no power of two: std::bad_alloc with EINVAL.
class MemoryResource final : public std::pmr::memory_resource {
 public:
  MemoryResource() noexcept : tag_(Tag::current()) {}
  explicit MemoryResource(Tag tag) noexcept : tag_(tag) {}

  Tag tag() const noexcept { return tag_; }

 private:
  void* do_allocate(size_t bytes, size_t alignment) override {
    return detail::allocate(tag_, bytes, alignment);
  }
  void do_deallocate(void* p, size_t, size_t) override { tally_free(p); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
#if defined(__cpp_rtti)
    return dynamic_cast<const MemoryResource*>(&other) != nullptr;
#else
    return this == &other;
#endif
  }

  Tag tag_;
};

// ---- Owning pointers

// std::make_unique in a scope of the tag, for programs whose operator new is Tally's (all that link
// or preload it): the object and what its constructor allocates are under the tag; what the
// arguments hold already is not. Unlike a scope by itself it never allocates under another tag: one
// that is none, or retired, is std::bad_alloc with errno EINVAL, and nothing is constructed.
//
// For a shared_ptr: std::allocate_shared<T>(tally::Allocator<T>(tag), ...), where the object and
// its counts alone are under the tag.
template <class T, class... Args>
requires(!std::is_array_v<T>) std::unique_ptr<T> make_unique_in(Tag tag, Args&&... args) {
  const TagScope scope(tag);
  if (!scope.active()) detail::raise<std::bad_alloc>();
  return std::make_unique<T>(std::forward<Args>(args)...);
}

}  // namespace tally
