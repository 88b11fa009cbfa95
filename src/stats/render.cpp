#include "stats/render.h"

#include <errno.h>
#include <string.h>

#include "base/math.h"
#include "os/os.h"
#include "stats/walk.h"

namespace tally::core {
namespace {

// The bytes of the UTF-8 sequence at `text`; 0 if there is none.
size_t utf8_length(const char* text) {
  auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = byte(0);
  if (first < 0x80) return 1;
  size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies above Unicode.
  unsigned char second = byte(1);
  bool bad = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
             (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
  return bad ? 0 : length;
}

// Tag paths hold no control characters, but may hold any other bytes.
void put_string(TextWriter& out, const char* text) {
  out.put('"');
  while (*text != 0) {
    size_t length = utf8_length(text);
    if (length == 0) {
      out.put("\\ufffd");
      ++text;
      continue;
    }
    if (*text == '"' || *text == '\\') out.put('\\');
    out.put(text, length);
    text += length;
  }
  out.put('"');
}

// "key": value pairs of one JSON object.
class Object {
 public:
  explicit Object(TextWriter& out) : out_(out) { out_.put('{'); }
  ~Object() { out_.put('}'); }
  TextWriter& key(const char* name) {
    if (!first_) out_.put(',');
    first_ = false;
    return out_.put('"').put(name).put("\":");
  }
  void number(const char* name, uint64_t value) { key(name).number(value); }
  void string(const char* name, const char* value) { put_string(key(name), value); }
  void limit(const char* name, uint64_t bytes) {
    bytes == TALLY_LIMIT_NONE ? key(name).put("null") : key(name).number(bytes);
  }

 private:
  TextWriter& out_;
  bool first_ = true;
};

const char* name_of_pressure(uint32_t level) {
  return level == TALLY_PRESSURE_HARD ? "hard" : level == TALLY_PRESSURE_SOFT ? "soft" : "normal";
}

void put_tag(TextWriter& out, const tally_stats_t& tag) {
  Object object(out);
  object.number("id", tag.id);
  object.string("name", tag.name);
  if (tag.parent == TALLY_TAG_NONE) {
    object.key("parent").put("null");
  } else {
    object.number("parent", tag.parent);
  }
  object.number("live_bytes", tag.own.live_bytes);
  object.number("live_blocks", tag.own.live_blocks);
  object.number("footprint_bytes", tag.own.footprint_bytes);
  object.number("peak_footprint_bytes", tag.own.peak_footprint_bytes);
  object.number("alloc_count", tag.own.alloc_count);
  object.number("free_count", tag.own.free_count);
  object.number("requested_bytes", tag.own.requested_bytes);
  object.number("large_live_bytes", tag.own.large_live_bytes);
  object.number("large_live_blocks", tag.own.large_live_blocks);
  object.number("charged_bytes", tag.own.charged_bytes);
  // What the limits are about.
  object.number("held_bytes", tag.total.footprint_bytes);
  object.limit("soft_limit_bytes", tag.soft_limit_bytes);
  object.limit("hard_limit_bytes", tag.hard_limit_bytes);
  object.string("pressure", name_of_pressure(tag.pressure));
  object.number("pressure_ms", tag.pressure_ms);
  object.number("pressure_count", tag.pressure_count);
  object.number("refused_count", tag.refused_count);
  object.number("waited_count", tag.waited_count);
}

void put_class(TextWriter& out, const tally_class_stats_t& row) {
  Object object(out);
  object.number("tag", row.tag);
  object.number("size", row.block_size);
  object.number("live_blocks", row.live_blocks);
  object.number("capacity_blocks", row.capacity_blocks);
  object.number("slabs", row.slabs);
  object.number("footprint_bytes", row.footprint_bytes);
  object.number("alloc_count", row.alloc_count);
  object.number("requested_bytes", row.requested_bytes);
  object.number("empty_bytes", row.empty_bytes);
  object.number("sparse_slabs", row.sparse_slabs);
  object.number("sparse_free_bytes", row.sparse_free_bytes);
  object.key("fill").put('[');
  for (unsigned i = 0; i < TALLY_FILL_STEPS; ++i) {
    if (i != 0) out.put(',');
    out.number(row.fill[i]);
  }
  out.put(']');
}

// ---- The table.

// What a name takes on the screen.
size_t width_of(const char* name) {
  size_t width = 0;
  for (; *name != 0; ++width) name += max_of(utf8_length(name), size_t{1});
  return width;
}

// Laid out as tools/tally-dump does.
class Table {
 public:
  Table(TextWriter& out, const tally_snapshot_t& snapshot) : out_(out) {
    for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
      const tally_stats_t& tag = snapshot.tags[i];
      name_width_ = max_of(name_width_, min_of(width_of(tag.name), kNameMost));
      for (const Column& column : kColumns) {
        total_.*column.figure += tag.own.*column.figure;
        fit(column, tag.own);
      }
    }
    // The tags had their peaks at different times: their sum is no peak.
    for (const Column& column : kColumns) {
      if (&column != kPeak) fit(column, total_);
    }
  }

  void put_heading() {
    size_t blanks = put_name("TAG");
    for (const Column& column : kColumns) {
      out_.spaces(blanks + width(column) - strlen(column.heading)).put(column.heading);
      blanks = kGap;
    }
    out_.put('\n');
  }
  void put_tag(const tally_stats_t& tag) { put_row(tag.name, tag.own, nullptr); }
  void put_total() { put_row("total", total_, kPeak); }

 private:
  struct Column {
    const char* heading;
    uint64_t tally_counts::*figure;
    bool is_bytes;
  };
  static constexpr Column kColumns[] = {
      {"LIVE", &tally_counts::live_bytes, true},
      {"BLOCKS", &tally_counts::live_blocks, false},
      {"FOOTPRINT", &tally_counts::footprint_bytes, true},
      {"PEAK", &tally_counts::peak_footprint_bytes, true},
      {"ALLOCS", &tally_counts::alloc_count, false},
      {"FREES", &tally_counts::free_count, false},
      {"REQUESTED", &tally_counts::requested_bytes, true},
  };
  static constexpr const Column* kPeak = &kColumns[3];
  static constexpr size_t kNameMost = 48;
  static constexpr size_t kGap = 2;

  size_t& width(const Column& column) { return widths_[&column - kColumns]; }

  static void put_figure(TextWriter& out, const Column& column, uint64_t n) {
    if (column.is_bytes) {
      put_bytes(out, n);
    } else {
      out.number(n);
    }
  }
  // "B" takes the room of "KiB", so that figures stand below each other.
  static size_t blanks_after(const Column& column, uint64_t n) {
    return column.is_bytes && n < 1024 ? 2 : 0;
  }
  static size_t length_of(const Column& column, uint64_t n) {
    TextWriter counted(nullptr, 0);
    put_figure(counted, column, n);
    return counted.length() + blanks_after(column, n);
  }
  void fit(const Column& column, const tally_counts& counts) {
    width(column) = max_of(
        width(column), max_of(strlen(column.heading), length_of(column, counts.*column.figure)));
  }

  // These give back the blanks before what comes next: none are left at the end of a line.
  size_t put_name(const char* name) {
    out_.put(name);
    return kGap + name_width_ - min_of(width_of(name), name_width_);
  }
  void put_row(const char* name, const tally_counts& counts, const Column* left_out) {
    size_t blanks = put_name(name);
    for (const Column& column : kColumns) {
      uint64_t n = counts.*column.figure;
      if (&column == left_out) {
        blanks += width(column) + kGap;
        continue;
      }
      out_.spaces(blanks + width(column) - length_of(column, n));
      put_figure(out_, column, n);
      blanks = kGap + blanks_after(column, n);
    }
    out_.put('\n');
  }

  TextWriter& out_;
  tally_counts total_ = {};
  size_t name_width_ = strlen("total");
  size_t widths_[sizeof kColumns / sizeof *kColumns] = {};
};

// A line for each tag that has a limit.
void put_limits(TextWriter& out, const tally_snapshot_t& snapshot) {
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    const tally_stats_t& tag = snapshot.tags[i];
    bool has_soft = tag.soft_limit_bytes != TALLY_LIMIT_NONE;
    bool has_hard = tag.hard_limit_bytes != TALLY_LIMIT_NONE;
    if (!has_soft && !has_hard) continue;
    put_bytes(out.put("limit of ").put(tag.name).put(": holds "), tag.total.footprint_bytes);
    if (has_hard) put_bytes(out.put(" of "), tag.hard_limit_bytes);
    if (has_soft) put_bytes(out.put(", soft limit "), tag.soft_limit_bytes);
    out.put(", pressure ").put(name_of_pressure(tag.pressure)).put(", in all ");
    out.number(tag.pressure_ms).put(" ms");
    if (tag.refused_count != 0) out.put(", refused ").number(tag.refused_count);
    if (tag.waited_count != 0) out.put(", waited ").number(tag.waited_count);
    out.put('\n');
  }
}

const char* name_of_tag(const tally_snapshot_t& snapshot, uint32_t id) {
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    if (snapshot.tags[i].id == id) return snapshot.tags[i].name;
  }
  return "?";
}

bool write_fd(void* to, const char* text, size_t length) {
  return os::write_all(*static_cast<int*>(to), text, length);
}

}  // namespace

void put_bytes(TextWriter& out, uint64_t bytes) {
  static constexpr const char* kUnits[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  unsigned unit = 0;
  uint64_t whole = bytes, hundredths = 0;
  while (whole >= 1024 && unit < 6) {
    ++unit;
    uint64_t scale = uint64_t{1} << (10 * unit);
    whole = bytes / scale;
    hundredths = (bytes % scale) / (scale / 128) * 100 / 128;
  }
  out.number(whole);
  if (unit != 0 && whole < 10) {
    out.put('.').number(hundredths / 10).number(hundredths % 10);
  } else if (unit != 0 && whole < 100) {
    out.put('.').number(hundredths / 10);
  }
  out.put(kUnits[unit]);
}

void render_json(const tally_snapshot_t& snapshot, TextWriter& out) {
  {
    Object object(out);
    object.number("version", snapshot.version);
    object.number("pid", static_cast<uint64_t>(snapshot.pid));
    object.string("backend", snapshot.backend);
    {
      Object process(object.key("process"));
      process.number("rss_bytes", snapshot.process.rss_bytes);
      process.number("live_bytes", snapshot.process.live_bytes);
      process.number("footprint_bytes", snapshot.process.footprint_bytes);
      process.number("mapped_bytes", snapshot.process.mapped_bytes);
      process.number("metadata_bytes", snapshot.process.metadata_bytes);
      process.number("foreign_frees", snapshot.process.foreign_frees);
      process.number("backend_bytes", snapshot.process.backend_bytes);
      process.number("backend_chunks", snapshot.process.backend_chunks);
      process.number("backend_surplus_bytes", snapshot.process.backend_surplus_bytes);
    }
    object.key("tags").put('[');
    for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
      if (i != 0) out.put(',');
      out.put('\n');
      put_tag(out, snapshot.tags[i]);
    }
    out.put(']');
    object.key("classes").put('[');
    for (uint64_t i = 0; i < snapshot.class_count; ++i) {
      if (i != 0) out.put(',');
      out.put('\n');
      put_class(out, snapshot.classes[i]);
    }
    out.put(']');
  }
  out.put('\n');
}

void render_table(const tally_snapshot_t& snapshot, TextWriter& out) {
  out.put("tally: process ").number(static_cast<uint64_t>(snapshot.pid)).put(", backend ");
  out.put(snapshot.backend).put(": where the memory is\n");
  Table table(out, snapshot);
  table.put_heading();
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) table.put_tag(snapshot.tags[i]);
  table.put_total();
  put_limits(out, snapshot);
  put_bytes(out.put("resident "), snapshot.process.rss_bytes);
  put_bytes(out.put(", mapped "), snapshot.process.mapped_bytes);
  put_bytes(out.put(", metadata "), snapshot.process.metadata_bytes);
  if (snapshot.process.backend_surplus_bytes != 0) {
    put_bytes(out.put(", the backend holds besides "), snapshot.process.backend_surplus_bytes);
  }
  if (snapshot.process.foreign_frees != 0) {
    out.put(", foreign frees ").number(snapshot.process.foreign_frees);
  }
  out.put('\n');
}

void render_classes(const tally_snapshot_t& snapshot, TextWriter& out) {
  constexpr int kMost = 10;
  // The classes, and then what each tag has in large blocks.
  const uint64_t count = snapshot.class_count + snapshot.tag_count;
  auto large_of = [&](uint64_t i) -> const tally_stats_t& {
    return snapshot.tags[i - snapshot.class_count];
  };
  auto bytes_of = [&](uint64_t i) {
    return i < snapshot.class_count ? snapshot.classes[i].footprint_bytes
                                    : large_of(i).own.large_live_bytes;
  };
  out.put("the sizes that take most:\n");
  uint64_t below = UINT64_MAX;  // what takes as much or more was written already
  for (int written = 0; written < kMost;) {
    uint64_t most = 0;
    for (uint64_t i = 0; i < count; ++i) {
      if (bytes_of(i) < below) most = max_of(most, bytes_of(i));
    }
    if (most == 0) return;
    for (uint64_t i = 0; i < count && written < kMost; ++i) {
      if (bytes_of(i) != most) continue;
      put_bytes(out.put("  "), most);
      if (i < snapshot.class_count) {
        const tally_class_stats_t& row = snapshot.classes[i];
        out.put(" in blocks of ").number(row.block_size).put(" bytes of ");
        out.put(name_of_tag(snapshot, row.tag)).put(", ").number(row.live_blocks).put(" of ");
        out.number(row.capacity_blocks).put(" live\n");
      } else {
        out.put(" in large blocks of ").put(large_of(i).name).put(", ");
        out.number(large_of(i).own.large_live_blocks).put(" live\n");
      }
      ++written;
    }
    below = most;
  }
}

size_t render_to_buffer(Render render, char* buffer, size_t capacity) {
  tally_snapshot_t* snapshot = take_snapshot();
  if (snapshot == nullptr) return 0;
  TextWriter out(buffer, capacity == 0 ? 0 : capacity - 1);
  render(*snapshot, out);
  if (capacity != 0) buffer[out.used()] = 0;
  free_snapshot(snapshot);
  return out.length();
}

int render_to_fd(Render render, int fd) {
  tally_snapshot_t* snapshot = take_snapshot();
  if (snapshot == nullptr) return ENOMEM;
  char buffer[1024];  // a signal handler's stack may be small
  TextWriter out(buffer, sizeof buffer, write_fd, &fd);
  render(*snapshot, out);
  free_snapshot(snapshot);
  return out.flush() ? 0 : os::last_error();
}

}  // namespace tally::core
