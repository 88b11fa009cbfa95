#include "dump_reader.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "failure.h"

namespace tally::tool {
namespace {

using nlohmann::json;

// Room for TALLY_TAG_MAX tags, of some 500 bytes each, and their classes.
constexpr std::streamoff kMostBytes = 128 << 20;
// A dump's values are in rows, in tables, in an object; what nests deeper is passed over.
constexpr int kMostDepth = 8;

class Dump {
 public:
  explicit Dump(const std::string& path) : path_(path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) fail(strerror(errno));
    const std::streamoff size = file.tellg();
    if (size > kMostBytes) fail("too large for a dump of Tally's");
    std::string text(static_cast<size_t>(std::max<std::streamoff>(size, 0)), 0);
    file.seekg(0);
    file.read(text.data(), size);
    text.resize(static_cast<size_t>(file.gcount()));
    auto is_shallow = [](int depth, json::parse_event_t, const json&) {
      return depth <= kMostDepth;
    };
    root_ = json::parse(text, is_shallow, false);
    if (root_.is_discarded()) {
      size_t end = text.find_last_not_of(" \t\r\n");
      bool is_cut = end == text.npos || text[end] != '}';
      fail(is_cut ? "JSON that is cut short at " + std::to_string(text.size()) + " bytes"
                  : "begins as JSON, but is none");
    }
  }

  Record record() {
    if (!root_.is_object()) fail_foreign("it is no object");
    const uint64_t version = count(root_, "version", "it");
    if (version > TALLY_STATS_VERSION) {
      fail("version " + std::to_string(version) + " of Tally's JSON; this tally reads up to " +
           std::to_string(TALLY_STATS_VERSION) + ": use the one that came with the library");
    }
    Record record;
    record.source = path_;
    record.is_dump = true;
    put_head(&record);
    read_tags(&record);
    read_classes();
    add_up();
    put_frame(&record);
    record.require_sound();
    return record;
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw Failure(kFailed, path_ + ": " + why);
  }
  [[noreturn]] void fail_foreign(const std::string& what) const {
    fail("JSON, but not Tally's: " + what);
  }

  // A count that must be there; `where` is for the message.
  uint64_t count(const json& object, const char* key, const char* where) const {
    auto at = object.find(key);
    if (at == object.end() || !at->is_number_unsigned()) {
      fail_foreign(std::string(where) + " has no \"" + key + "\"");
    }
    return at->get<uint64_t>();
  }
  // One that older versions lack, or that may be null.
  static uint64_t count_or(const json& object, const char* key, uint64_t otherwise) {
    auto at = object.find(key);
    return at != object.end() && at->is_number_unsigned() ? at->get<uint64_t>() : otherwise;
  }
  std::string string(const json& object, const char* key, const char* where) const {
    auto at = object.find(key);
    if (at == object.end() || !at->is_string()) {
      fail_foreign(std::string(where) + " has no \"" + key + "\"");
    }
    return at->get<std::string>();
  }
  const json& table(const char* key) const {
    auto at = root_.find(key);
    if (at == root_.end() || !at->is_array())
      fail_foreign(std::string("it has no \"") + key + "\"");
    for (const json& row : *at) {
      if (!row.is_object()) fail_foreign(std::string("a row of \"") + key + "\" is no object");
    }
    return *at;
  }

  void put_head(Record* record) const {
    record->head.pid = static_cast<int64_t>(count(root_, "pid", "it"));
    const std::string backend = string(root_, "backend", "it");
    strncpy(record->head.backend, backend.c_str(), sizeof record->head.backend - 1);
  }

  void read_tags(Record* record) {
    for (const json& from : table("tags")) {
      constexpr char kWhere[] = "a row of \"tags\"";
      record::TagRow tag = {};
      tag.id = static_cast<uint32_t>(count(from, "id", kWhere));
      tag.parent = static_cast<uint32_t>(count_or(from, "parent", TALLY_TAG_NONE));
      tag.name = static_cast<uint32_t>(record->names.size());
      const std::string name = string(from, "name", kWhere);
      record->names.insert(record->names.end(), name.c_str(), name.c_str() + name.size() + 1);
      tag.pressure = pressure(from);
      tag.soft_limit = count_or(from, "soft_limit_bytes", TALLY_LIMIT_NONE);
      tag.hard_limit = count_or(from, "hard_limit_bytes", TALLY_LIMIT_NONE);
      tag.pressure_ms = count_or(from, "pressure_ms", 0);
      tag.pressure_count = count_or(from, "pressure_count", 0);
      tag.refused_count = count_or(from, "refused_count", 0);
      tag.waited_count = count_or(from, "waited_count", 0);
      tag.own.live_bytes = count(from, "live_bytes", kWhere);
      tag.own.live_blocks = count(from, "live_blocks", kWhere);
      tag.own.footprint_bytes = count(from, "footprint_bytes", kWhere);
      tag.own.peak_footprint_bytes = count(from, "peak_footprint_bytes", kWhere);
      tag.own.alloc_count = count(from, "alloc_count", kWhere);
      tag.own.free_count = count(from, "free_count", kWhere);
      tag.own.requested_bytes = count(from, "requested_bytes", kWhere);
      tag.own.large_live_bytes = count_or(from, "large_live_bytes", 0);
      tag.own.large_live_blocks = count_or(from, "large_live_blocks", 0);
      tag.own.charged_bytes = count_or(from, "charged_bytes", 0);
      tags_.push_back(tag);
      paths_.push_back(name);
    }
  }

  static uint32_t pressure(const json& tag) {
    auto at = tag.find("pressure");
    if (at != tag.end() && *at == "hard") return TALLY_PRESSURE_HARD;
    return at != tag.end() && *at == "soft" ? TALLY_PRESSURE_SOFT : TALLY_PRESSURE_NORMAL;
  }

  void read_classes() {
    for (const json& from : table("classes")) {
      constexpr char kWhere[] = "a row of \"classes\"";
      record::ClassRow row = {};
      row.tag = static_cast<uint32_t>(count(from, "tag", kWhere));
      row.block_size = static_cast<uint32_t>(count(from, "size", kWhere));
      row.live_blocks = count(from, "live_blocks", kWhere);
      row.capacity_blocks = count(from, "capacity_blocks", kWhere);
      row.slabs = static_cast<uint32_t>(count(from, "slabs", kWhere));
      row.footprint = count(from, "footprint_bytes", kWhere);
      row.allocs = count_or(from, "alloc_count", 0);
      row.requested = count_or(from, "requested_bytes", 0);
      row.sparse_slabs = static_cast<uint32_t>(count_or(from, "sparse_slabs", 0));
      row.sparse_free = count_or(from, "sparse_free_bytes", 0);
      read_fill(from, &row);
      classes_.push_back(row);
    }
  }

  static void read_fill(const json& from, record::ClassRow* row) {
    auto at = from.find("fill");
    if (at == from.end() || !at->is_array() || at->size() != record::kFillSteps) return;
    for (unsigned i = 0; i < record::kFillSteps; ++i) {
      if ((*at)[i].is_number_unsigned()) row->fill[i] = (*at)[i].get<uint32_t>();
    }
  }

  // Totals, as a dump has them of none but the footprint.
  void add_up() {
    std::map<std::string_view, record::TagRow*> by_path;
    for (size_t i = 0; i < tags_.size(); ++i) by_path.emplace(paths_[i], &tags_[i]);
    for (size_t i = 0; i < tags_.size(); ++i) {
      std::string_view path = paths_[i];
      while (true) {
        auto at = by_path.find(path);
        if (at != by_path.end()) add(&at->second->total, tags_[i].own);
        if (path.size() <= 1) break;
        size_t slash = path.rfind('/');
        path = slash == 0 || slash == path.npos ? "/" : path.substr(0, slash);
      }
    }
  }
  static void add(tally_counts* to, const tally_counts& counts) {
    to->live_bytes += counts.live_bytes;
    to->live_blocks += counts.live_blocks;
    to->footprint_bytes += counts.footprint_bytes;
    to->alloc_count += counts.alloc_count;
    to->free_count += counts.free_count;
    to->requested_bytes += counts.requested_bytes;
    to->large_live_bytes += counts.large_live_bytes;
    to->large_live_blocks += counts.large_live_blocks;
    to->charged_bytes += counts.charged_bytes;
  }

  // `tally stat --json` tells it; else when the file was written.
  int64_t time() const {
    auto at = root_.find("time_ns");
    if (at != root_.end() && at->is_number_integer()) return at->get<int64_t>();
    struct stat status = {};
    stat(path_.c_str(), &status);
    return int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  }

  void put_frame(Record* record) const {
    auto at = root_.find("process");
    if (at == root_.end() || !at->is_object()) fail_foreign("it has no \"process\"");
    record::FrameHead head = {};
    head.tag_count = static_cast<uint32_t>(tags_.size());
    head.class_count = static_cast<uint32_t>(classes_.size());
    head.names_bytes = static_cast<uint32_t>(record->names.size());
    head.bytes = sizeof head + tags_.size() * sizeof(record::TagRow) +
                 classes_.size() * sizeof(record::ClassRow);
    head.time = time();
    head.foreign_frees = count_or(*at, "foreign_frees", 0);
    head.ledger.rss = count(*at, "rss_bytes", "its \"process\"");
    head.ledger.mapped = count(*at, "mapped_bytes", "its \"process\"");
    head.ledger.metadata = count(*at, "metadata_bytes", "its \"process\"");
    head.ledger.backend_surplus = count_or(*at, "backend_surplus_bytes", 0);
    for (size_t i = 0; i < tags_.size(); ++i) {
      if (paths_[i] == "/tally") continue;
      const tally_counts& own = tags_[i].own;
      head.ledger.charged += own.charged_bytes;
      head.ledger.live += own.live_bytes - own.charged_bytes;
      head.ledger.in_slabs += own.footprint_bytes - own.live_bytes;
    }
    record->frame.resize(head.bytes / 8);
    char* to = reinterpret_cast<char*>(record->frame.data());
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, tags_.data(), tags_.size() * sizeof(record::TagRow));
    memcpy(to + sizeof head + tags_.size() * sizeof(record::TagRow), classes_.data(),
           classes_.size() * sizeof(record::ClassRow));
  }

  std::string path_;
  json root_;
  std::vector<record::TagRow> tags_;
  std::vector<std::string> paths_;
  std::vector<record::ClassRow> classes_;
};

}  // namespace

bool is_dump(const std::string& path) {
  struct stat status;  // a pipe would make the reading of it wait
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  std::ifstream file(path, std::ios::binary);
  char first = 0;
  file >> first;
  return first == '{' || first == '[';
}

Record read_dump(const std::string& path) { return Dump(path).record(); }

}  // namespace tally::tool
