#include "process_list.h"

#include <algorithm>

#include "failure.h"
#include "process.h"
#include "record_reader.h"
#include "summary.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

ProcessRow read_row(const RecordFile& file) {
  ProcessRow row = {Reader(file.path).read(), file.uid, 0};
  row.rss = row.record.ledger().rss;
  auto status = row.record.is_live ? process_status(row.record.head.pid) : std::nullopt;
  if (status && status->rss != 0) row.rss = status->rss;
  return row;
}

}  // namespace

std::vector<ProcessRow> list_processes(std::vector<std::string>* unreadable) {
  std::vector<ProcessRow> rows;
  for (const RecordFile& file : list_records()) {
    try {
      rows.push_back(read_row(file));
    } catch (const Failure& failure) {
      unreadable->emplace_back(failure.what());
    }
  }
  std::sort(rows.begin(), rows.end(), [](const ProcessRow& one, const ProcessRow& other) {
    if (one.record.is_live != other.record.is_live) return one.record.is_live;
    return one.rss > other.rss;
  });
  return rows;
}

const record::TagRow* largest_tag(const Record& record) {
  const record::TagRow* largest = nullptr;
  for (const record::TagRow& tag : record.tags()) {
    bool is_larger = largest == nullptr || tag.own.footprint_bytes > largest->own.footprint_bytes;
    if (is_larger) largest = &tag;
  }
  return largest;
}

nlohmann::ordered_json process_json(const ProcessRow& row) {
  const Record& record = row.record;
  nlohmann::ordered_json object = {
      {"pid", record.head.pid},
      {"uid", row.uid},
      {"state", state_of(record)},
      {"live", record.is_live},
      {"age_ms", age_of(record) / 1'000'000},
      {"rss_bytes", row.rss},
      {"live_bytes", record.ledger().live},
      {"footprint_bytes", totals(record).footprint_bytes},
      {"command", command_of(record.head)},
      {"file", record.source},
  };
  const record::TagRow* tag = largest_tag(record);
  if (tag != nullptr) {
    object["largest_tag"] = printable(record.name(*tag));
    object["largest_tag_bytes"] = tag->own.footprint_bytes;
  }
  return object;
}

}  // namespace tally::tool
