// Tally's C++ face: tags as values, scopes as objects. Header-only over <tally/tally.h>; works
// without exceptions.
#pragma once

#include <tally/tally.h>

#include <cstddef>
#include <string>

namespace tally {

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

}  // namespace tally
