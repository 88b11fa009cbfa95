// Tally's C++ face: tags as values, scopes as objects. Header-only over <tally/tally.h>; works
// without exceptions.
#pragma once

#if __cplusplus < 202002L
#error \
    "Tally's C++ headers need C++20, such as by -std=c++20; <tally/tally.h> does with any C++, and with C"
#endif

#include <tally/tally.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace tally {

// How near a tag is to its limits, in order; the values are TALLY_PRESSURE_*.
enum class Pressure {
  kNormal = TALLY_PRESSURE_NORMAL,
  kSoft = TALLY_PRESSURE_SOFT,
  kHard = TALLY_PRESSURE_HARD,
};

// A tag by value: as cheap as its id. A Tag that could not be made is invalid, and tests false.
class Tag {
 public:
  constexpr Tag() noexcept = default;  // the root
  constexpr explicit Tag(tally_tag id) noexcept : id_(id) {}

  // The tag of this path, made if need be. Invalid with errno as tally_tag_create says.
  static Tag create(const char* path) noexcept { return Tag(tally_tag_create(path)); }
  static Tag find(const char* path) noexcept { return Tag(tally_tag_find(path)); }
  static Tag current() noexcept { return Tag(tally_tag_current()); }
  // The tag of a block; invalid if it is none of Tally's.
  static Tag of(const void* block) noexcept { return Tag(tally_tag_of(block)); }

  constexpr tally_tag id() const noexcept { return id_; }
  constexpr explicit operator bool() const noexcept { return id_ != TALLY_TAG_NONE; }
  bool retire() const noexcept { return tally_tag_retire(id_) == 0; }

  // The whole path; empty if there is no such tag.
  std::string name() const {
    char path[TALLY_TAG_PATH_MAX + 1];
    return std::string(path, tally_tag_name(id_, path, sizeof path));
  }

  // What the tag holds now; all zero if there is no such tag.
  tally_stats_t stats() const noexcept {
    tally_stats_t stats = {};
    stats.size = sizeof stats;
    if (tally_stats(id_, &stats) != 0) stats = {};
    return stats;
  }

  // Sets the tag's limits, in bytes or TALLY_LIMIT_NONE, and what happens at the hard one. False
  // with errno as tally_limit_set says.
  bool limit(uint64_t soft, uint64_t hard, tally_policy policy = TALLY_POLICY_FAIL) const noexcept {
    return tally_limit_set(id_, soft, hard, policy) == 0;
  }
  // The highest level of the tag and those above it: a few nanoseconds, no lock.
  Pressure pressure() const noexcept { return static_cast<Pressure>(tally_pressure(id_)); }

  friend constexpr bool operator==(Tag a, Tag b) noexcept { return a.id_ == b.id_; }

 private:
  tally_tag id_ = TALLY_TAG_ROOT;
};

// While it lives, this thread's allocations carry the tag. Scopes nest and end in reverse order, on
// the thread that opened them. Opening one under an invalid or retired tag leaves the current tag
// in force: active() tells.
class TagScope {
 public:
  explicit TagScope(Tag tag) noexcept : active_(tally_tag_push(tag.id()) == 0) {}
  explicit TagScope(tally_tag tag) noexcept : TagScope(Tag(tag)) {}
  ~TagScope() {
    if (active_) tally_tag_pop();
  }
  TagScope(const TagScope&) = delete;
  TagScope& operator=(const TagScope&) = delete;

  bool active() const noexcept { return active_; }

 private:
  bool active_;
};

// While it lives, a function is called on the tag's changes of level, as tally_on_pressure says:
// on the thread that allocated or freed, with whatever locks the program's code around that holds.
// A function that leaves by an exception ends the program. `options` may be left out; its size is
// filled in. Could it not be registered, nothing is called: active() tells, and errno.
//
// When the destructor returns no other thread is in a call. It waits for one that is, so who
// destroys it must hold no lock that the function waits for. Of a class's members it should be the
// last, so that it goes before what the function uses.
class PressureListener {
 public:
  PressureListener(Tag tag, tally_pressure_fn function, void* arg,
                   tally_pressure_options options = {}) noexcept
      : tag_(tag), function_(function), arg_(arg) {
    options.size = sizeof options;
    active_ = tally_on_pressure(tag.id(), function, arg, &options) == 0;
  }
  // Calls callable(Tag, Pressure). It is not copied and must outlive the listener.
  template <class Callable>
  PressureListener(Tag tag, Callable& callable, tally_pressure_options options = {}) noexcept
      : PressureListener(tag, &call<Callable>,
                         const_cast<void*>(static_cast<const void*>(std::addressof(callable))),
                         options) {}
  ~PressureListener() {
    if (active_) tally_off_pressure(tag_.id(), function_, arg_);
  }
  PressureListener(const PressureListener&) = delete;
  PressureListener& operator=(const PressureListener&) = delete;

  bool active() const noexcept { return active_; }

 private:
  template <class Callable>
  static void call(tally_tag tag, int level, void* callable) noexcept {
    (*static_cast<Callable*>(callable))(Tag(tag), static_cast<Pressure>(level));
  }

  Tag tag_;
  tally_pressure_fn function_;
  void* arg_;
  bool active_;
};

// While it lives, memory that Tally did not allocate (a mapping, a device's) counts as the tag's.
// A Charge that a limit refused counts nothing and tests false, with errno as tally_charge says.
class Charge {
 public:
  Charge() noexcept = default;  // of nothing; tests false
  Charge(Tag tag, size_t bytes) noexcept {
    if (tally_charge(tag.id(), bytes) != 0) return;
    tag_ = tag;
    bytes_ = bytes;
  }
  Charge(Charge&& other) noexcept { swap(other); }
  Charge& operator=(Charge other) noexcept {
    swap(other);
    return *this;
  }
  ~Charge() { reset(); }

  explicit operator bool() const noexcept { return static_cast<bool>(tag_); }
  Tag tag() const noexcept { return tag_; }
  size_t bytes() const noexcept { return bytes_; }
  // Ends it now.
  void reset() noexcept {
    if (tag_) tally_uncharge(tag_.id(), bytes_);
    tag_ = Tag(TALLY_TAG_NONE);
    bytes_ = 0;
  }

 private:
  void swap(Charge& other) noexcept {
    std::swap(tag_, other.tag_);
    std::swap(bytes_, other.bytes_);
  }

  Tag tag_{TALLY_TAG_NONE};
  size_t bytes_ = 0;
};

}  // namespace tally
