// tally diff: what grew between two records or dumps.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "arguments.h"
#include "commands.h"
#include "difference.h"
#include "json_text.h"
#include "summary.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kDiffHelp[] = R"(usage: tally diff [OPTION...] A B
       tally diff [OPTION...] --every SECONDS [TARGET]

Shows what changed from A to B, by tag and by size of block: live bytes, their change a second, the
same with all tags below, footprint, blocks, and how often was allocated. What grew most comes first;
what did not change is left out. A tag that only B has is new, one that only A has is gone.

  A                   a process id, or the file of a record or of a dump in JSON (a file whose name
                      is a number: ./123)
  B                   likewise, a later one
  --every SECONDS     reads TARGET, a process id or the file of a record, twice, so far apart; it may
                      be left out where only one running process has a record
  --by tag|class      one of the two tables alone
  --sort growth|name  what comes first: what grew most, if left out, or by name
  --all               all rows, not the first 20 of a table alone
  --json              all rows as JSON, in bytes
  --help              this text

  tally diff --every 10 4711
  cp /dev/shm/tally-$(id -u)/4711.tally before; sleep 3600; tally diff before 4711
  tally diff --by tag monday.json tuesday.json

exit status: 0, or
  1    there is no such process, or a record cannot be read
  2    the command line cannot be understood
)";

constexpr size_t kFirst = 20;

struct Options {
  std::vector<std::string> targets;
  double every = 0;
  std::string by, sort = "growth";
  bool json = false, all = false;
};

std::pair<Record, Record> read_twice(const std::string& target, double seconds) {
  Reader reader = open_record(target);
  Record first = reader.read();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  return {std::move(first), reader.read()};
}

// "+1.20 MiB"; nothing if there is no time to divide by.
std::string rate(const Change& change, const std::optional<double>& seconds) {
  if (!seconds) return "-";
  return format_change(std::llround(double(change.grew()) / *seconds));
}

const char* fate_of(Fate fate) {
  return fate == Fate::kNew ? "new" : fate == Fate::kGone ? "gone" : "";
}

void print_notes(const Record& before, const Record& after, const Difference& all) {
  if (!all.is_same_process) puts("A and B are different processes");
  if (before.is_dump || after.is_dump)
    puts("the time of a dump that tells none is that of its file");
  if (!all.seconds) puts("no rates: B is not later than A");
  for (const auto& [name, record] : {std::pair("A", &before), std::pair("B", &after)}) {
    const uint32_t tags = record->frame_head().tags_left_out;
    if (tags != 0) printf("%s had no room for the %u smallest tags\n", name, tags);
  }
}

void print_summary(const Record& before, const Record& after, const Difference& all) {
  printf("A: %sB: %s", heading(before).c_str(), heading(after).c_str());
  print_notes(before, after, all);
  auto part = [&all](const char* name, const Change& change) {
    std::string text = std::string(name) + " " + format_change(change.grew());
    return all.seconds ? text + " (" + rate(change, all.seconds) + "/s)" : text;
  };
  if (all.seconds) printf("in %s: ", format_duration(uint64_t(*all.seconds * 1e9)).c_str());
  printf("%s, %s, %s\n", part("live", all.live).c_str(), part("footprint", all.footprint).c_str(),
         part("RSS", all.rss).c_str());
}

void print_table(const Table& table, size_t rows, size_t shown) {
  if (rows == 0) return;
  printf("\n%s", table.text().c_str());
  if (shown < rows) printf("... and %zu more; --all shows them\n", rows - shown);
}

void print_tags(const Difference& all, size_t most) {
  using Align = Table::Align;
  Table table({{"TAG", Align::kLeft},
               {"LIVE", Align::kRight, true},
               {"A SECOND", Align::kRight, true},
               {"WITH BELOW", Align::kRight, true},
               {"FOOTPRINT", Align::kRight, true},
               {"WITH BELOW", Align::kRight, true},
               {"BLOCKS"},
               {"ALLOCS"},
               {"", Align::kLeft}});
  const size_t shown = std::min(most, all.tags.size());
  for (const TagChange& row : std::span(all.tags).first(shown)) {
    table.add({shortened(row.tag, Table::kNameMost), format_change(row.live.grew()),
               rate(row.live, all.seconds), format_change(row.total_live.grew()),
               format_change(row.footprint.grew()), format_change(row.total_footprint.grew()),
               format_change_of_count(row.blocks.grew()), format_change_of_count(row.allocs.grew()),
               fate_of(row.fate)});
  }
  print_table(table, all.tags.size(), shown);
}

void print_classes(const Difference& all, size_t most) {
  using Align = Table::Align;
  Table table({{"TAG", Align::kLeft},
               {"SIZE", Align::kRight, true},
               {"LIVE", Align::kRight, true},
               {"A SECOND", Align::kRight, true},
               {"FOOTPRINT", Align::kRight, true},
               {"BLOCKS"},
               {"SLABS"},
               {"", Align::kLeft}});
  const size_t shown = std::min(most, all.classes.size());
  for (const ClassChange& row : std::span(all.classes).first(shown)) {
    table.add({shortened(row.tag, Table::kNameMost), format_bytes(row.block_size),
               format_change(row.live.grew()), rate(row.live, all.seconds),
               format_change(row.footprint.grew()), format_change_of_count(row.blocks.grew()),
               format_change_of_count(row.slabs.grew()), fate_of(row.fate)});
  }
  print_table(table, all.classes.size(), shown);
}

using nlohmann::ordered_json;

ordered_json side_json(const Record& record) {
  return {{"source", record.source},
          {"pid", record.head.pid},
          {"command", command_of(record.head)},
          {"state", state_of(record)},
          {"time_ns", record.frame_head().time}};
}

ordered_json change_json(const Change& change, const std::optional<double>& seconds) {
  ordered_json object = {
      {"before", change.before}, {"after", change.after}, {"grew", change.grew()}};
  object["per_second"] =
      seconds ? ordered_json(double(change.grew()) / *seconds) : ordered_json(nullptr);
  return object;
}

void print_json(const Record& before, const Record& after, const Difference& all,
                const Options& options) {
  auto change = [&all](const Change& of) { return change_json(of, all.seconds); };
  ordered_json object = {{"a", side_json(before)}, {"b", side_json(after)}};
  object["same_process"] = all.is_same_process;
  object["seconds"] = all.seconds ? ordered_json(*all.seconds) : ordered_json(nullptr);
  object["rss_bytes"] = change(all.rss);
  object["live_bytes"] = change(all.live);
  object["footprint_bytes"] = change(all.footprint);
  auto fate = [](Fate of) { return of == Fate::kStayed ? "stayed" : fate_of(of); };
  if (options.by != "class") {
    object["tags"] = ordered_json::array();
    for (const TagChange& row : all.tags) {
      object["tags"].push_back({{"tag", row.tag},
                                {"fate", fate(row.fate)},
                                {"live_bytes", change(row.live)},
                                {"total_live_bytes", change(row.total_live)},
                                {"footprint_bytes", change(row.footprint)},
                                {"total_footprint_bytes", change(row.total_footprint)},
                                {"live_blocks", change(row.blocks)},
                                {"alloc_count", change(row.allocs)}});
    }
  }
  if (options.by != "tag") {
    object["classes"] = ordered_json::array();
    for (const ClassChange& row : all.classes) {
      object["classes"].push_back({{"tag", row.tag},
                                   {"size", row.block_size},
                                   {"fate", fate(row.fate)},
                                   {"live_bytes", change(row.live)},
                                   {"footprint_bytes", change(row.footprint)},
                                   {"live_blocks", change(row.blocks)},
                                   {"slabs", change(row.slabs)}});
    }
  }
  fputs(json_text(object).c_str(), stdout);
}

bool read_options(Options* options, int argc, char** argv) {
  Arguments arguments(kDiffHelp);
  arguments.add_option("A B", options->targets);
  const Option every =
      arguments.add_option("--every", options->every).type_name("SECONDS").take_last();
  arguments.add_option("--by", options->by).take_last();
  arguments.add_option("--sort", options->sort).take_last();
  arguments.add_flag("--all", options->all);
  arguments.add_flag("--json", options->json);
  if (!arguments.read(argc, argv)) return false;
  const std::string& by = options->by;
  if (!by.empty() && by != "tag" && by != "class") {
    arguments.fail("--by " + by + ": expected tag or class");
  }
  if (options->sort != "growth" && options->sort != "name") {
    arguments.fail("--sort " + options->sort + ": expected growth or name");
  }
  const size_t count = options->targets.size();
  if (!every.is_given() && count != 2) {
    arguments.fail(std::to_string(count) + " given of A and B: expected both, or --every SECONDS");
  }
  constexpr double kMost = 1e6;
  bool is_time = options->every > 0 && options->every <= kMost;
  if (every.is_given() && !is_time) {
    arguments.fail("--every: expected seconds, above 0 and at most 1000000");
  }
  if (every.is_given() && count > 1) arguments.fail("--every reads one TARGET twice, not two");
  return true;
}

}  // namespace

int diff(int argc, char** argv) {
  Options options;
  if (!read_options(&options, argc, argv)) return 0;
  auto [before, after] = [&options] {
    if (options.every == 0) return std::pair(load(options.targets[0]), load(options.targets[1]));
    return read_twice(options.targets.empty() ? "" : options.targets[0], options.every);
  }();
  const Difference all =
      difference(before, after, options.sort == "name" ? Order::kName : Order::kGrowth);
  if (options.json) {
    print_json(before, after, all, options);
    return 0;
  }
  print_summary(before, after, all);
  const size_t most = options.all ? SIZE_MAX : kFirst;
  if (options.by != "class") print_tags(all, most);
  if (options.by != "tag") print_classes(all, most);
  return 0;
}

}  // namespace tally::tool
