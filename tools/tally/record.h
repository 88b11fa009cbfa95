// What a process held at one moment, as its record or a dump in JSON tells it.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "record/layout.h"

namespace tally::tool {

// Laid out as in the file: a reader fills `frame` and `names` with what it found and calls
// require_sound(); from then on every name and count in it may be used as it stands. The numbers
// are whatever was there: sums of them may wrap.
struct Record {
  std::string source;    // the file, for messages
  bool is_dump = false;  // JSON: it knows no peak of totals, and of the ledger rss, live, in_slabs,
                         // metadata, backend_surplus, charged and mapped; in_slabs has all that
                         // slabs hold beside live blocks
  bool is_live = false;  // its process runs, or is stopped
  record::Head head = {};
  std::vector<uint64_t> frame;  // FrameHead, then the rows
  std::vector<char> names;
  std::vector<uint64_t> since;  // of their cells: the publication that each is there for

  const record::FrameHead& frame_head() const {
    return *reinterpret_cast<const record::FrameHead*>(frame.data());
  }
  const record::Ledger& ledger() const { return frame_head().ledger; }
  // In no order that could be relied on.
  std::span<const record::TagRow> tags() const;
  std::span<const record::ClassRow> classes() const;
  std::span<const record::Range> ranges() const;

  // The path at this offset; empty if there is none.
  std::string_view name(uint32_t offset) const;
  std::string_view name(const record::TagRow& tag) const { return name(tag.name); }

  // Throws Failure (kFailed) if the counts do not fit the frame.
  void require_rows() const;
  // Likewise, or if a tag has no name.
  void require_sound() const;
  // Once the rows are sound: whether the names were read before any of the tags' gave way to
  // another.
  bool has_its_names() const;
};

// The strings of Head, which may lack their NUL.
template <size_t kSize>
std::string_view text_of(const char (&field)[kSize]) {
  return {field, strnlen(field, kSize)};
}

// The path at this offset in a file's names; empty if there is none.
std::string_view name_at(std::span<const char> names, uint32_t offset);

// Whether what is at this offset is still what a piece of this publication has there.
bool is_still_there(std::span<const uint64_t> since, uint32_t offset, uint64_t publication);

// Whether `path` is that of `tag` or of one below it.
bool is_within(std::string_view path, std::string_view tag);

// The command line as a shell would take it, more or less; the executable if there is none.
std::string command_of(const record::Head& head);

// Tags by id, as classes name them.
class TagIndex {
 public:
  explicit TagIndex(const Record& record) {
    for (const record::TagRow& tag : record.tags()) tags_.emplace(tag.id, &tag);
  }
  // nullptr if there is none: it was left out.
  const record::TagRow* find(uint32_t id) const {
    auto at = tags_.find(id);
    return at == tags_.end() ? nullptr : at->second;
  }

 private:
  std::unordered_map<uint32_t, const record::TagRow*> tags_;
};

// The tag of this path, with or without its first /. Throws Failure (kFailed) with those that there
// are if there is none.
const record::TagRow& require_tag(const Record& record, std::string_view path);

}  // namespace tally::tool
