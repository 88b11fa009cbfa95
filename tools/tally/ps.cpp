// tally ps: the processes that have a record.
#include <cstdio>
#include <string>
#include <vector>

#include "arguments.h"
#include "commands.h"
#include "json_text.h"
#include "process.h"
#include "process_list.h"
#include "summary.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kPsHelp[] = R"(usage: tally ps [--json]

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

void print_table(const std::vector<ProcessRow>& rows) {
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
  for (const ProcessRow& row : rows) {
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
  Arguments arguments(kPsHelp);
  bool as_json_text = false;
  arguments.add_flag("--json", as_json_text);
  if (!arguments.read(argc, argv)) return 0;

  std::vector<std::string> unreadable;
  const std::vector<ProcessRow> rows = list_processes(&unreadable);
  if (as_json_text) {
    auto list = nlohmann::ordered_json::array();
    for (const ProcessRow& row : rows) list.push_back(process_json(row));
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
