#include "report_data.h"

#include <algorithm>

#include "fragmentation.h"
#include "ledger_parts.h"
#include "report_parts.h"
#include "summary.h"
#include "tag_tree.h"

namespace tally::tool {
namespace {

using nlohmann::ordered_json;

ordered_json limit(uint64_t bytes) {
  return bytes == TALLY_LIMIT_NONE ? ordered_json(nullptr) : ordered_json(bytes);
}

// What lies below is also of the process: the root's, where there is one.
ordered_json process_object(const Record& record) {
  const record::Head& head = record.head;
  const record::FrameHead& frame = record.frame_head();
  const tally_counts all = totals(record);
  return {{"pid", head.pid},
          {"command", command_of(head)},
          {"executable", std::string(text_of(head.executable))},
          {"state", state_of(record)},
          {"live", record.is_live},
          {"time", as_ms(frame.time)},
          {"created", as_ms(head.created)},
          {"uptime_ms", frame.uptime / 1'000'000},
          {"age_ms", age_of(record) / 1'000'000},
          {"interval_ms", head.interval_ms},
          {"backend", std::string(text_of(head.backend))},
          {"tag_by", std::string(text_of(head.tag_by))},
          {"rss", record.ledger().rss},
          {"live_bytes", all.live_bytes},
          {"footprint_bytes", all.footprint_bytes},
          {"peak_footprint_bytes", all.peak_footprint_bytes},
          {"blocks", all.live_blocks},
          {"allocs", all.alloc_count},
          {"foreign_frees", frame.foreign_frees},
          {"tags_left_out", frame.tags_left_out},
          {"classes_left_out", frame.classes_left_out}};
}

ordered_json findings_list(const std::vector<Finding>& findings) {
  constexpr const char* kLevels[] = {"bad", "warn", "note", "good"};
  ordered_json list = ordered_json::array();
  for (const Finding& one : findings) {
    list.push_back({{"level", kLevels[static_cast<int>(one.level)]},
                    {"section", one.section},
                    {"text", one.text}});
  }
  return list;
}

ordered_json ledger_list(const record::Ledger& ledger) {
  ordered_json list = ordered_json::array();
  for (const LedgerPart& part : ledger_parts(ledger)) {
    list.push_back(
        {{"key", part.key}, {"label", part.label}, {"bytes", part.bytes}, {"help", part.help}});
  }
  return list;
}

ordered_json tag_rows(const Record& record, StringTable& paths) {
  ordered_json rows = ordered_json::array();
  std::vector<int> above;  // rows, by depth
  for (const TagNode& node : tag_tree(record)) {
    const record::TagRow& tag = *node.tag;
    above.resize(node.depth);
    const int parent = above.empty() ? -1 : above.back();
    above.push_back(static_cast<int>(rows.size()));
    rows.push_back({paths.index_of(node.path), parent, node.depth, tag.total.live_bytes,
                    tag.total.footprint_bytes, tag.total.peak_footprint_bytes,
                    tag.total.live_blocks, tag.total.alloc_count, tag.own.live_bytes,
                    tag.own.footprint_bytes, tag.own.live_blocks, tag.own.alloc_count,
                    limit(tag.soft_limit), limit(tag.hard_limit), pressure_name(tag.pressure),
                    tag.refused_count, tag.waited_count});
  }
  return {{"columns",
           {"tag", "parent", "depth", "live", "footprint", "peak", "blocks", "allocs", "own_live",
            "own_footprint", "own_blocks", "own_allocs", "soft", "hard", "pressure", "refused",
            "waited"}},
          {"rows", rows}};
}

ordered_json index_or_null(std::string_view path, StringTable& paths) {
  return path.empty() ? ordered_json(nullptr) : ordered_json(paths.index_of(path));
}

struct Band {
  size_t first;
  std::vector<uint32_t> live, footprint;  // KiB
};

ordered_json ring(std::span<const record::Point> points, const Record& record, StringTable& paths) {
  ordered_json time = ordered_json::array(), rss = time, live = time, footprint = time;
  std::map<uint32_t, Band> bands;
  for (size_t i = 0; i < points.size(); ++i) {
    const record::Point& point = points[i];
    time.push_back(as_ms(point.time));
    rss.push_back(point.rss);
    live.push_back(point.live);
    footprint.push_back(point.footprint);
    for (uint32_t at = 0; at < point.tag_count; ++at) {
      const record::PointTag& tag = point.tags[at];
      Band& band = bands.try_emplace(tag.name, Band{i, {}, {}}).first->second;
      band.live.resize(i - band.first + 1);
      band.footprint.resize(i - band.first + 1);
      band.live.back() = tag.live_kib;
      band.footprint.back() = tag.footprint_kib;
    }
  }
  ordered_json tags = ordered_json::array();
  for (const auto& [name, band] : bands) {
    ordered_json tag = index_or_null(record.name(name), paths);
    if (tag.is_null()) continue;
    tags.push_back(
        {{"tag", tag}, {"first", band.first}, {"live", band.live}, {"footprint", band.footprint}});
  }
  return {{"time", time}, {"rss", rss}, {"live", live}, {"footprint", footprint}, {"tags", tags}};
}

const char* kind_name(record::EventKind kind) {
  switch (kind) {
    case record::EventKind::kSoft:
      return "soft";
    case record::EventKind::kFailed:
      return "failed";
    case record::EventKind::kWaits:
      return "waits";
    case record::EventKind::kAborts:
      return "aborts";
    case record::EventKind::kLimitSet:
      return "limit";
  }
  return nullptr;
}

ordered_json event_rows(std::span<const record::Event> events, StringTable& paths) {
  ordered_json rows = ordered_json::array();
  for (const record::Event& event : events) {
    const char* kind = kind_name(event.kind);
    if (kind == nullptr) continue;  // of a newer library
    rows.push_back({as_ms(event.time), kind, index_or_null(text_of(event.tag), paths), event.asked,
                    event.held, limit(event.soft), limit(event.hard), event.left_out});
  }
  return {{"columns", {"time", "kind", "tag", "asked", "held", "soft", "hard", "left_out"}},
          {"rows", rows}};
}

ordered_json fragmentation_object(const Record& record, StringTable& paths) {
  const Fragmentation all = fragmentation_of(record);
  const TagIndex index(record);
  ordered_json rows = ordered_json::array();
  for (const FragRow& row : all.rows) {
    const record::ClassRow& of = *row.row;
    const record::TagRow* tag = index.find(of.tag);
    rows.push_back(
        {tag == nullptr ? ordered_json(nullptr) : ordered_json(paths.index_of(record.name(*tag))),
         of.block_size, of.live_blocks, of.capacity_blocks, of.slabs, of.footprint, row.free,
         of.sparse_slabs, of.sparse_free, of.fill});
  }
  return {{"ratio", all.ratio()},
          {"live", all.held.live},
          {"footprint", all.held.footprint},
          {"free", all.free},
          {"slabs", all.slabs},
          {"sparse_slabs", all.sparse_slabs},
          {"sparse_free", all.sparse_free},
          {"outside", all.outside},
          {"advice", advice_on(all)},
          {"columns",
           {"tag", "size", "live_blocks", "capacity", "slabs", "footprint", "free", "sparse_slabs",
            "sparse_free", "fill"}},
          {"rows", rows}};
}

}  // namespace

ordered_json report_data(Reader& reader, const Profile& profile, Symbols& symbols) {
  const Record record = reader.read();
  const std::vector<record::Point> minutes = reader.points(Reader::Ring::kMinutes, record);
  const std::vector<record::Point> recent = reader.points(Reader::Ring::kRecent, record);
  const std::vector<record::Event> events = reader.events();
  std::vector<record::Point> points = minutes;
  points.insert(points.end(), recent.begin(), recent.end());
  std::stable_sort(points.begin(), points.end(),
                   [](const auto& one, const auto& other) { return one.time < other.time; });

  StringTable paths;
  ordered_json all;
  all["schema"] = 1;
  all["tally_version"] = std::string(text_of(record.head.tally_version));
  all["process"] = process_object(record);
  all["findings"] = findings_list(findings_of({record, points, events, profile, symbols}));
  all["ledger"] = ledger_list(record.ledger());
  all["rounding"] = record.ledger().rounding;
  all["paths"] = nullptr;  // all that comes below adds to them
  all["tags"] = tag_rows(record, paths);
  all["history"] = {{"recent", ring(recent, record, paths)},
                    {"minutes", ring(minutes, record, paths)}};
  all["events"] = event_rows(events, paths);
  all["fragmentation"] = fragmentation_object(record, paths);
  all["profile"] = report_profile(profile, symbols, paths);
  all["paths"] = paths.strings();
  return all;
}

ordered_json history_data(Reader& reader) {
  const Record record = reader.read();
  const std::vector<record::Point> minutes = reader.points(Reader::Ring::kMinutes, record);
  const std::vector<record::Point> recent = reader.points(Reader::Ring::kRecent, record);
  StringTable paths;
  ordered_json history = {{"recent", ring(recent, record, paths)},
                          {"minutes", ring(minutes, record, paths)}};
  return {{"paths", paths.strings()}, {"history", std::move(history)}};
}

}  // namespace tally::tool
