#include "record.h"

#include <algorithm>

#include "failure.h"
#include "text.h"

namespace tally::tool {
namespace {

template <class Row>
std::span<const Row> rows(const Record& record, size_t offset, size_t count) {
  const char* start = reinterpret_cast<const char*>(record.frame.data()) + offset;
  return {reinterpret_cast<const Row*>(start), count};
}

size_t at_classes(const record::FrameHead& head) {
  return sizeof head + head.tag_count * sizeof(record::TagRow);
}
size_t at_ranges(const record::FrameHead& head) {
  return at_classes(head) + head.class_count * sizeof(record::ClassRow);
}

}  // namespace

std::span<const record::TagRow> Record::tags() const {
  return rows<record::TagRow>(*this, sizeof(record::FrameHead), frame_head().tag_count);
}
std::span<const record::ClassRow> Record::classes() const {
  return rows<record::ClassRow>(*this, at_classes(frame_head()), frame_head().class_count);
}
std::span<const record::Range> Record::ranges() const {
  return rows<record::Range>(*this, at_ranges(frame_head()), frame_head().range_count);
}

std::string_view name_at(std::span<const char> names, uint32_t offset) {
  if (offset >= names.size() || names[offset] != '/') return {};
  size_t most = std::min<size_t>(names.size() - offset, TALLY_TAG_PATH_MAX + 1);
  size_t length = strnlen(names.data() + offset, most);
  return length == most ? std::string_view() : std::string_view(names.data() + offset, length);
}

bool is_still_there(std::span<const uint64_t> since, uint32_t offset, uint64_t publication) {
  const size_t cell = offset / record::kNameCell;
  return cell >= since.size() || since[cell] <= publication;
}

bool is_within(std::string_view path, std::string_view tag) {
  if (tag == "/") return true;
  return path.starts_with(tag) && (path.size() == tag.size() || path[tag.size()] == '/');
}

std::string_view Record::name(uint32_t offset) const { return name_at(names, offset); }

bool Record::has_its_names() const {
  return std::ranges::all_of(tags(), [this](const record::TagRow& tag) {
    return is_still_there(since, tag.name, frame_head().seal.sequence);
  });
}

void Record::require_rows() const {
  const record::FrameHead& counts = frame_head();
  size_t bytes = at_ranges(counts) + counts.range_count * sizeof(record::Range);
  if (counts.bytes != bytes || frame.size() * 8 < bytes) {
    throw Failure(kFailed, source + ": damaged: its frame has other rows than it says");
  }
}

void Record::require_sound() const {
  require_rows();
  for (const record::TagRow& tag : tags()) {
    if (!name(tag).empty()) continue;
    throw Failure(kFailed, source + ": damaged: the tag with the id " + std::to_string(tag.id) +
                               " has no name");
  }
}

std::string command_of(const record::Head& head) {
  std::string_view all(head.command, std::min<size_t>(head.command_bytes, sizeof head.command));
  while (!all.empty() && all.back() == 0) all.remove_suffix(1);
  if (all.empty()) return printable(text_of(head.executable));
  std::string command(all);
  for (char& c : command) {
    if (c >= 0 && c < ' ') c = ' ';  // between arguments, and ends of lines within
  }
  return printable(command);
}

const record::TagRow& require_tag(const Record& record, std::string_view path) {
  std::string whole = path.starts_with('/') ? "" : "/";
  whole += path;
  std::vector<std::string_view> others;
  for (const record::TagRow& tag : record.tags()) {
    if (record.name(tag) == whole) return tag;
    others.push_back(record.name(tag));
  }
  constexpr size_t kShown = 8;
  std::sort(others.begin(), others.end());
  std::string message = record.source + ": no tag " + printable(whole) + "; those that there are: ";
  for (size_t i = 0; i < std::min(others.size(), kShown); ++i) {
    message += (i == 0 ? "" : ", ") + printable(others[i]);
  }
  throw Failure(kFailed, message + (others.size() > kShown ? ", ... (tally stat shows all)" : ""));
}

}  // namespace tally::tool
