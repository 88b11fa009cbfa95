// What a program of calls must have left behind, kept by means that are not Tally's: which blocks
// there are, where, with what in them, under which tag; and what the statistics must say of that.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "blocks.hpp"
#include "input.hpp"
#include "tally/tally.h"

namespace tally::fuzz {

inline constexpr tally_tag kNoTag = 0xfffffff0;  // nobody's, and not TALLY_TAG_NONE

// A block of the heap or of an arena.
struct Block {
  void* p = nullptr;
  size_t size = 0;    // that may be used, and is filled
  size_t asked = 0;   // of it: what a realloc must keep
  uint32_t seed = 0;  // of what is in it
  size_t tag = 0;     // index in the model

  bool is_intact() const { return is_filled(p, size, seed); }
};

// No two that live overlap.
class Ranges {
 public:
  void add(const void* p, size_t size) {
    const auto start = reinterpret_cast<uintptr_t>(p);
    const auto next = ends_.lower_bound(start);
    FUZZ_CHECK(next == ends_.end() || start + size <= next->first);
    FUZZ_CHECK(next == ends_.begin() || std::prev(next)->second <= start);
    ends_.emplace(start, start + size);
  }
  void remove(const void* p) { FUZZ_CHECK(ends_.erase(reinterpret_cast<uintptr_t>(p)) == 1); }

 private:
  std::map<uintptr_t, uintptr_t> ends_;  // by where they start
};

struct TagState {
  std::string path;
  tally_tag id = TALLY_TAG_NONE;
  bool is_live = false;  // takes new blocks
  uint64_t live_bytes = 0, live_blocks = 0, charged = 0;
  uint64_t base_bytes = 0, base_blocks = 0;  // before the model knew it
  uint64_t hard = TALLY_LIMIT_NONE, soft = TALLY_LIMIT_NONE;
  uint64_t ceiling = UINT64_MAX;  // its total may not have been above that since its limit was set
  uint64_t held = 0;              // its total when it was last looked at
  size_t arenas = 0;

  bool has_content() const { return live_blocks != 0 || charged != 0; }
  // To be used in calls. The id of one that is gone may be another's by now.
  tally_tag asked_id() const { return is_live || has_content() ? id : kNoTag; }
  bool is_below(const TagState& other) const {
    if (other.path == "/") return true;
    return path.starts_with(other.path) &&
           (path.size() == other.path.size() || path[other.path.size()] == '/');
  }
};

class Model {
 public:
  // The root, and those that programs make: parents before children.
  static constexpr std::array<const char*, 8> kPaths = {
      "/", "/f", "/f/a", "/f/a/x", "/f/a/y", "/f/b", "/g", "/g/long-name.of a tag/\xc3\xa9"};

  Model() {
    for (const char* path : kPaths) tags_.push_back({.path = path});
    tags_[0].id = TALLY_TAG_ROOT;
    tags_[0].is_live = true;
  }

  std::vector<TagState>& tags() { return tags_; }
  TagState& tag(size_t index) { return tags_[index]; }

  // Its index. One that was made by a rule, such as a thread's, is new to the model: what it holds
  // by now is told by Tally, but for a block of `bytes` that the model is about to add. One that
  // was retired, whose only block is being resized, stays as the model knows it.
  size_t index_of(tally_tag id, size_t bytes) {
    // A retired tag's id may be another's by now, unless it still holds something.
    for (size_t i = 0; i < tags_.size(); ++i) {
      if (tags_[i].id == id && (tags_[i].is_live || tags_[i].has_content())) return i;
    }
    const tally_stats_t now = stats(id);
    for (size_t i = 0; i < tags_.size(); ++i) {
      if (tags_[i].id == id && tags_[i].path == now.name) return i;
    }
    tags_.push_back({.path = now.name, .id = id, .is_live = true});
    tags_.back().base_bytes = now.own.live_bytes - bytes;
    tags_.back().base_blocks = now.own.live_blocks - (bytes == 0 ? 0 : 1);
    return tags_.size() - 1;
  }

  static tally_stats_t stats(tally_tag id) {
    tally_stats_t stats = {};
    stats.size = sizeof stats;
    FUZZ_CHECK(tally_stats(id, &stats) == 0);
    return stats;
  }

  // Which of the tags take new blocks now, after one was made or retired. `changed`: the one that
  // it was about; all others, but for those above a new one, are as before.
  void look_at_tags(size_t changed) {
    for (TagState& tag : tags_) {
      const tally_tag id = tally_tag_find(tag.path.c_str());
      const bool is_live = id != TALLY_TAG_NONE;
      const bool may_change = tags_[changed].is_below(tag);
      FUZZ_CHECK(is_live == tag.is_live || may_change);
      if (is_live && id != tag.id) {
        FUZZ_CHECK(!tag.has_content());
        tag.id = id;
        tag.hard = tag.soft = TALLY_LIMIT_NONE;
        tag.ceiling = UINT64_MAX;
      }
      if (is_live && !tag.is_live) {
        FUZZ_CHECK(tally_limit_get(id, &tag.soft, &tag.hard, nullptr) == 0);
        // It may be a new one with the id of the old, whose limit is gone.
        if (tag.hard == TALLY_LIMIT_NONE) tag.ceiling = UINT64_MAX;
      }
      tag.is_live = is_live;
    }
  }

  // Whether what is asked for may be refused, for a limit of the tag or above it. Limits leave room
  // for slabs and for the reserve.
  bool may_refuse(const TagState& tag, uint64_t bytes) const {
    constexpr uint64_t kRoom = uint64_t{1} << 20;
    for (const TagState& above : tags_) {
      if (!tag.is_below(above) || above.hard == TALLY_LIMIT_NONE) continue;
      if (above.id == TALLY_TAG_ROOT) return true;  // whose total has Tally's own tables
      const uint64_t held = stats(above.id).total.footprint_bytes;
      if (held + 2 * bytes + kRoom > above.hard) return true;
    }
    return false;
  }

  void add(const Block& block) {
    ranges_.add(block.p, block.size);
    tags_[block.tag].live_bytes += block.size;
    ++tags_[block.tag].live_blocks;
  }
  void remove(const Block& block) {
    ranges_.remove(block.p);
    tags_[block.tag].live_bytes -= block.size;
    --tags_[block.tag].live_blocks;
  }
  Ranges& ranges() { return ranges_; }

  // No call is being made: every figure must be exact.
  void verify();

 private:
  void verify_tag(const TagState& tag, const tally_stats_t& row) const;

  std::vector<TagState> tags_;
  Ranges ranges_;
};

}  // namespace tally::fuzz
