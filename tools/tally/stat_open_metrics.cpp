#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "ledger_parts.h"
#include "stat_formats.h"
#include "summary.h"
#include "text.h"

namespace tally::tool {
namespace {

// A label's value: \, " and ends of lines are escaped; other controls would be allowed, and are
// not wanted.
std::string escaped(std::string_view text) {
  std::string value;
  for (char c : printable(text)) {
    if (c == '\\' || c == '"') value += '\\';
    value += c;
  }
  return value;
}

class Writer {
 public:
  enum class Type { kGauge, kCounter };

  // Begins a metric. Its samples follow at once, as OpenMetrics wants it.
  void family(const char* name, Type type, const char* unit, const char* help) {
    name_ = std::string("tally_") + name;
    const bool is_counter = type == Type::kCounter;
    text_ += "# TYPE " + name_ + (is_counter ? " counter\n" : " gauge\n");
    if (*unit != 0) text_ += "# UNIT " + name_ + " " + unit + "\n";
    text_ += "# HELP " + name_ + " " + help + "\n";
    suffix_ = is_counter ? "_total" : "";
  }
  // labels: NAME="VALUE",..., escaped.
  void sample(const std::string& labels, const std::string& value) {
    text_ += name_ + suffix_ + (labels.empty() ? "" : "{" + labels + "}") + " " + value + "\n";
  }
  void sample(const std::string& labels, uint64_t value) { sample(labels, std::to_string(value)); }

  std::string end() { return std::move(text_) + "# EOF\n"; }

 private:
  std::string text_, name_;
  const char* suffix_ = "";
};

std::string seconds(double value) {
  char text[48];
  snprintf(text, sizeof text, "%.3f", value);
  return text;
}

struct LabelledTag {
  const record::TagRow* tag;
  std::string labels;  // pid="...",process="...",tag="..."
};

struct Source {
  const Record* record;
  std::string labels;  // pid="...",process="..."
  std::vector<LabelledTag> tags;
};

// Two series of one name would not be accepted: names that look the same get their id.
std::vector<LabelledTag> labelled_tags(const Record& record, const std::string& process) {
  std::vector<LabelledTag> all;
  std::set<std::string> taken;
  for (const record::TagRow& tag : record.tags()) {
    std::string name = escaped(record.name(tag));
    if (!taken.insert(name).second) {
      name += " (" + std::to_string(tag.id) + "." + std::to_string(all.size()) + ")";
    }
    all.push_back({&tag, process});
    all.back().labels.append(",tag=\"").append(name).append("\"");
  }
  return all;
}

Source source_of(const Record& record) {
  const std::string labels = "pid=\"" + std::to_string(record.head.pid) + "\",process=\"" +
                             escaped(process_name(record)) + "\"";
  return {&record, labels, labelled_tags(record, labels)};
}

void put_who(Writer& out, const std::vector<Source>& sources) {
  using Type = Writer::Type;
  out.family("process_info", Type::kGauge, "", "The process, its value 1.");
  for (const auto& [record, labels, tags] : sources) {
    out.sample(labels + ",command=\"" + escaped(shortened(command_of(record->head), 200)) +
                   "\",backend=\"" + escaped(text_of(record->head.backend)) + "\",tag_by=\"" +
                   escaped(text_of(record->head.tag_by)) + "\",version=\"" +
                   escaped(text_of(record->head.tally_version)) + "\"",
               "1");
  }
  out.family("up", Type::kGauge, "", "1 while the process lives, 0 of what it left.");
  for (const auto& [record, labels, tags] : sources) {
    if (!record->is_dump) out.sample(labels, record->is_live ? "1" : "0");
  }
  out.family("timestamp_seconds", Type::kGauge, "seconds", "When the figures were taken.");
  for (const auto& [record, labels, tags] : sources) {
    out.sample(labels, seconds(double(record->frame_head().time) / 1e9));
  }
}

void put_process(Writer& out, const std::vector<Source>& sources) {
  using Type = Writer::Type;
  out.family("resident_bytes", Type::kGauge, "bytes", "Resident memory of the process.");
  for (const Source& source : sources) out.sample(source.labels, source.record->ledger().rss);
  out.family("mapped_bytes", Type::kGauge, "bytes", "Address space that the heap has taken.");
  for (const Source& source : sources) out.sample(source.labels, source.record->ledger().mapped);
  out.family("ledger_bytes", Type::kGauge, "bytes", "Resident memory by what it is.");
  for (const Source& source : sources) {
    if (source.record->is_dump) continue;
    for (const LedgerPart& part : ledger_parts(source.record->ledger())) {
      out.sample(source.labels + ",part=\"" + part.key + "\"", std::to_string(part.bytes));
    }
  }
  out.family("foreign_frees", Type::kCounter, "", "Frees of what is not of this heap.");
  for (const Source& source : sources) {
    out.sample(source.labels, source.record->frame_head().foreign_frees);
  }
}

// Frees are not told: their count may step back a little, which would pass for a restart. They are
// the allocations less the live blocks.
void put_tags(Writer& out, const std::vector<Source>& sources) {
  using Type = Writer::Type;
  struct Metric {
    const char* name;
    Type type;
    const char* unit;
    uint64_t tally_counts::*count;
    const char* help;
  };
  static constexpr Metric kMetrics[] = {
      {"live_bytes", Type::kGauge, "bytes", &tally_counts::live_bytes, "Bytes in blocks in use."},
      {"live_blocks", Type::kGauge, "", &tally_counts::live_blocks, "Blocks in use."},
      {"footprint_bytes", Type::kGauge, "bytes", &tally_counts::footprint_bytes,
       "Bytes of the slabs and large blocks that hold the live ones."},
      {"peak_footprint_bytes", Type::kGauge, "bytes", &tally_counts::peak_footprint_bytes,
       "The most that the footprint of the tag was; sums over tags mean nothing."},
      {"charged_bytes", Type::kGauge, "bytes", &tally_counts::charged_bytes,
       "Of the live bytes: memory that is not heap."},
      {"allocations", Type::kCounter, "", &tally_counts::alloc_count, "Blocks ever allocated."},
      {"requested_bytes", Type::kCounter, "bytes", &tally_counts::requested_bytes,
       "Bytes ever asked for."},
  };
  for (const Metric& metric : kMetrics) {
    out.family(metric.name, metric.type, metric.unit, metric.help);
    for (const Source& source : sources) {
      for (const LabelledTag& tag : source.tags) {
        out.sample(tag.labels, tag.tag->own.*metric.count);
      }
    }
  }
}

void put_limits(Writer& out, const std::vector<Source>& sources) {
  using Type = Writer::Type;
  out.family("limit_bytes", Type::kGauge, "bytes", "What the tag and all below it may hold.");
  std::vector<LabelledTag> limited;
  for (const Source& source : sources) {
    std::copy_if(source.tags.begin(), source.tags.end(), std::back_inserter(limited),
                 [](const LabelledTag& tag) {
                   return tag.tag->soft_limit != TALLY_LIMIT_NONE ||
                          tag.tag->hard_limit != TALLY_LIMIT_NONE;
                 });
  }
  for (const LabelledTag& tag : limited) {
    const uint64_t soft = tag.tag->soft_limit, hard = tag.tag->hard_limit;
    if (soft != TALLY_LIMIT_NONE) out.sample(tag.labels + ",limit=\"soft\"", soft);
    if (hard != TALLY_LIMIT_NONE) out.sample(tag.labels + ",limit=\"hard\"", hard);
  }
  auto put_limited = [&](const char* name, Type type, const char* unit, const char* help,
                         auto value) {
    out.family(name, type, unit, help);
    for (const LabelledTag& tag : limited) out.sample(tag.labels, value(*tag.tag));
  };
  put_limited("limit_held_bytes", Type::kGauge, "bytes", "What is held, with all tags below.",
              [](const record::TagRow& tag) { return std::to_string(tag.total.footprint_bytes); });
  put_limited("pressure", Type::kGauge, "", "0 normal, 1 at the soft limit, 2 at the hard one.",
              [](const record::TagRow& tag) { return std::to_string(tag.pressure); });
  put_limited("pressure_seconds", Type::kCounter, "seconds", "Time under pressure.",
              [](const record::TagRow& tag) { return seconds(double(tag.pressure_ms) / 1e3); });
  put_limited("limit_refused", Type::kCounter, "", "Allocations that the hard limit refused.",
              [](const record::TagRow& tag) { return std::to_string(tag.refused_count); });
  put_limited("limit_waited", Type::kCounter, "", "Allocations that waited at the hard limit.",
              [](const record::TagRow& tag) { return std::to_string(tag.waited_count); });
}

}  // namespace

std::string as_open_metrics(std::span<const Record> records, Ended ended) {
  std::vector<Source> all, told;
  for (const Record& record : records) all.push_back(source_of(record));
  std::copy_if(all.begin(), all.end(), std::back_inserter(told), [&](const Source& source) {
    return ended == Ended::kWhole || source.record->is_live;
  });
  Writer out;
  put_who(out, all);
  put_process(out, told);
  put_tags(out, told);
  put_limits(out, told);
  return out.end();
}

}  // namespace tally::tool
