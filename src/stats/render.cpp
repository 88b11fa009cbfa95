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

 private:
  TextWriter& out_;
  bool first_ = true;
};

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
}

void put_class(TextWriter& out, const tally_class_stats_t& row) {
  Object object(out);
  object.number("tag", row.tag);
  object.number("size", row.block_size);
  object.number("live_blocks", row.live_blocks);
  object.number("capacity_blocks", row.capacity_blocks);
  object.number("slabs", row.slabs);
  object.number("footprint_bytes", row.footprint_bytes);
}

// ---- The table.

// "1.50 MiB": three digits say enough.
void put_bytes(TextWriter& out, uint64_t bytes, size_t width) {
  static constexpr const char* kUnits[] = {" B  ", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  unsigned unit = 0;
  uint64_t whole = bytes, hundredths = 0;
  while (whole >= 1024 && unit < 6) {
    ++unit;
    uint64_t scale = uint64_t{1} << (10 * unit);
    whole = bytes / scale;
    hundredths = (bytes % scale) / (scale / 128) * 100 / 128;
  }
  char buffer[32];
  TextWriter text(buffer, sizeof buffer);
  text.number(whole);
  if (unit != 0 && whole < 10) {
    text.put('.').number(hundredths / 10).number(hundredths % 10);
  } else if (unit != 0 && whole < 100) {
    text.put('.').number(hundredths / 10);
  }
  text.put(kUnits[unit]);
  out.spaces(text.length() < width ? width - text.length() : 1).put(buffer, text.used());
}

void put_count(TextWriter& out, uint64_t n, size_t width) {
  char buffer[20];
  TextWriter text(buffer, sizeof buffer);
  text.number(n);
  out.spaces(text.length() < width ? width - text.length() : 1).put(buffer, text.used());
}

constexpr size_t kBytesWidth = 12;
constexpr size_t kCountWidth = 13;
constexpr size_t kNameLeast = 8, kNameMost = 48;

void put_heading(TextWriter& out, const char* name, size_t width) {
  size_t length = strlen(name);
  out.spaces(width > length ? width - length : 1).put(name);
}

void put_counts(TextWriter& out, const char* name, size_t name_width, const tally_counts& counts,
                bool with_peak) {
  size_t length = strlen(name);
  out.put(name).spaces(length < name_width ? name_width - length : 0);
  put_bytes(out, counts.live_bytes, kBytesWidth);
  put_count(out, counts.live_blocks, kCountWidth);
  put_bytes(out, counts.footprint_bytes, kBytesWidth);
  if (with_peak) {
    put_bytes(out, counts.peak_footprint_bytes, kBytesWidth);
  } else {
    out.spaces(kBytesWidth);
  }
  put_count(out, counts.alloc_count, kCountWidth);
  put_count(out, counts.free_count, kCountWidth);
  put_bytes(out, counts.requested_bytes, kBytesWidth);
  out.put('\n');
}

bool write_fd(void* to, const char* text, size_t length) {
  return os::write_all(*static_cast<int*>(to), text, length);
}

}  // namespace

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
  size_t width = kNameLeast;
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    width = max_of(width, min_of(strlen(snapshot.tags[i].name), kNameMost));
  }
  out.put("tally: process ").number(static_cast<uint64_t>(snapshot.pid)).put(", backend ");
  out.put(snapshot.backend).put(": where the memory is\n");
  out.put("TAG").spaces(width - 3);
  put_heading(out, "LIVE", kBytesWidth);
  put_heading(out, "BLOCKS", kCountWidth);
  put_heading(out, "FOOTPRINT", kBytesWidth);
  put_heading(out, "PEAK", kBytesWidth);
  put_heading(out, "ALLOCS", kCountWidth);
  put_heading(out, "FREES", kCountWidth);
  put_heading(out, "REQUESTED", kBytesWidth);
  out.put('\n');
  tally_counts sum = {};
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    const tally_counts& own = snapshot.tags[i].own;
    put_counts(out, snapshot.tags[i].name, width, own, true);
    sum.live_bytes += own.live_bytes;
    sum.live_blocks += own.live_blocks;
    sum.footprint_bytes += own.footprint_bytes;
    sum.alloc_count += own.alloc_count;
    sum.free_count += own.free_count;
    sum.requested_bytes += own.requested_bytes;
  }
  put_counts(out, "total", width, sum, false);
  out.put("resident");
  put_bytes(out, snapshot.process.rss_bytes, 0);
  out.put(", mapped");
  put_bytes(out, snapshot.process.mapped_bytes, 0);
  out.put(", metadata");
  put_bytes(out, snapshot.process.metadata_bytes, 0);
  if (snapshot.process.foreign_frees != 0) {
    out.put(", foreign frees ").number(snapshot.process.foreign_frees);
  }
  out.put('\n');
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
  char buffer[4096];
  TextWriter out(buffer, sizeof buffer, write_fd, &fd);
  render(*snapshot, out);
  free_snapshot(snapshot);
  return out.flush() ? 0 : os::last_error();
}

}  // namespace tally::core
