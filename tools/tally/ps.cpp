// tally ps: the processes that have a record.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "arguments.h"
#include "commands.h"
#include "failure.h"
#include "json_text.h"
#include "process.h"
#include "summary.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kHelp[] = R"(usage: tally ps [--json]

Lists the processes that have a record, those that live first, the largest first; as root those of
all users. STATE is running, stopped, dead (killed, crashed, or left by _exit) or ended (by an exit,
and the record was to be kept); AGE is how old the figures are but RSS, which of a process that lives
is that of now; LARGEST TAG is the one that holds most itself.

  --json    one object a process
  --help    this text

  tally ps
  tally ps --json | jq -r 'sort_by(-.live_bytes)[0].pid'

exit status: 0, also where there are none; or
  2    the command line cannot be understood
)";

struct Row {
  Record record;
  uid_t uid;
  uint64_t rss;
};

const record::TagRow* largest_tag(const Record& record) {
  const record::TagRow* largest = nullptr;
  for (const record::TagRow& tag : record.tags()) {
    bool is_larger = largest == nullptr || tag.own.footprint_bytes > largest->own.footprint_bytes;
    if (is_larger) largest = &tag;
  }
  return largest;
}

Row read_row(const RecordFile& file) {
  Row row = {Reader(file.path).read(), file.uid, 0};
  row.rss = row.record.ledger().rss;
  auto status = row.record.is_live ? process_status(row.record.head.pid) : std::nullopt;
  if (status && status->rss != 0) row.rss = status->rss;
  return row;
}

nlohmann::ordered_json as_json(const Row& row) {
  const Record& record = row.record;
  nlohmann::ordered_json object = {
      {"pid", record.head.pid},
      {"uid", row.uid},
      {"state", state_of(record)},
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

void print_table(const std::vector<Row>& rows) {
  using Align = Table::Align;
  Table table({{"PID"},
               {"USER", Align::kLeft},
               {"STATE", Align::kLeft},
               {"AGE"},
               {"RSS", Align::kRight, true},
               {"LIVE", Align::kRight, true},
               {"FOOTPRINT", Align::kRight, true},
               {"LARGEST TAG", Align::kLeft},
               {"", Align::kRight, true},
               {"COMMAND", Align::kLeft}});
  const size_t width = terminal_width();
  for (const Row& row : rows) {
    const Record& record = row.record;
    const record::TagRow* tag = largest_tag(record);
    table.add({std::to_string(record.head.pid), user_name(row.uid), state_of(record),
               format_duration(age_of(record)), format_bytes(row.rss),
               format_bytes(record.ledger().live), format_bytes(totals(record).footprint_bytes),
               tag == nullptr ? "" : shortened(printable(record.name(*tag)), Table::kNameMost),
               tag == nullptr ? "" : format_bytes(tag->own.footprint_bytes),
               shortened(command_of(record.head), width == 0 ? SIZE_MAX : width / 2)},
              record.is_live ? Style::kNone : Style::kDim);
  }
  fputs(table.text().c_str(), stdout);
}

}  // namespace

int ps(int argc, char** argv) {
  Arguments arguments(kHelp);
  bool as_json_text = false;
  arguments.app().add_flag("--json", as_json_text);
  if (!arguments.read(argc, argv)) return 0;

  std::vector<Row> rows;
  std::vector<std::string> unreadable;
  for (const RecordFile& file : list_records()) {
    try {
      rows.push_back(read_row(file));
    } catch (const Failure& failure) {
      unreadable.emplace_back(failure.what());
    }
  }
  std::sort(rows.begin(), rows.end(), [](const Row& one, const Row& other) {
    if (one.record.is_live != other.record.is_live) return one.record.is_live;
    return one.rss > other.rss;
  });
  if (as_json_text) {
    auto list = nlohmann::ordered_json::array();
    for (const Row& row : rows) list.push_back(as_json(row));
    fputs(json_text(list).c_str(), stdout);
  } else if (!rows.empty()) {
    print_table(rows);
  } else {
    puts("no process has a record; one that is started by tally run has");
  }
  for (const std::string& line : unreadable) fprintf(stderr, "tally ps: %s\n", line.c_str());
  return 0;
}

}  // namespace tally::tool
