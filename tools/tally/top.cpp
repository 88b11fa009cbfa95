// tally top: a record, again and again.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "arguments.h"
#include "commands.h"
#include "failure.h"
#include "screen.h"
#include "target.h"
#include "text.h"
#include "top_rows.h"
#include "top_screen.h"
#include "watch.h"

namespace tally::tool {
namespace {

constexpr char kTopHelp[] = R"(usage: tally top [OPTION...] [TARGET]

Shows what a process holds, by tag, again and again: live bytes and footprint of the tag's own and (+)
with all tags below, how often is allocated and by how much live bytes grow a second, how near the tag
is to its limit, and its live bytes over the last minutes. Reads the record's file alone: the process
does not notice. Where stdout is no terminal, or one that cannot move its cursor, a block of lines
comes each time. When the process ends its last figures stay.

  TARGET              a process id, or the file of a record (a file whose name is a number: ./123);
                      if it is left out and several processes have a record, one can be chosen
  --interval SECONDS  between two looks: from 0.1 to 3600, 1 if left out
  --sort KEY          live (if left out), footprint, growth, allocs or name
  --tree              tags below each other; growth, allocations and history with all below
  --once              one block of lines, and no more
  --help              this text

Keys: q quits, t tree or flat, l f g a n sort, / filters, p pauses, h shows all.

  tally top
  tally top --sort growth 4711
  tally top --interval 60 4711 >>memory.log

exit status: 0, or
  1    there is no such process, or its record cannot be read
  2    the command line cannot be understood
)";

using std::chrono::milliseconds;

struct Options {
  std::string target, sort = "live";
  double interval = 1;
  bool is_tree = false, once = false;

  TopView view() const {
    TopView view;
    view.is_tree = is_tree;
    for (int i = 0; i < int(std::size(kTopSorts)); ++i) {
      if (sort == kTopSorts[i]) view.sort = TopSort(i);
    }
    return view;
  }
  milliseconds every() const { return milliseconds(long(interval * 1000)); }
};

std::string clock_time() {
  const time_t now = time(nullptr);
  char text[64];
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", localtime(&now));
  return text;
}

constexpr TopColumn kAllColumns[] = {
    TopColumn::kTag,       TopColumn::kLive,           TopColumn::kTotalLive,
    TopColumn::kFootprint, TopColumn::kTotalFootprint, TopColumn::kBlocks,
    TopColumn::kAllocs,    TopColumn::kGrowth,         TopColumn::kLimit,
    TopColumn::kHistory};

void print_block(const Watch& watch, const TopView& view) {
  constexpr size_t kHistory = 20;
  const History history(watch.points(), kHistory);
  std::vector<Table::Column> columns;
  for (TopColumn column : kAllColumns) {
    const bool is_text = column == TopColumn::kTag || column == TopColumn::kHistory;
    const bool is_bytes = !is_text && column != TopColumn::kBlocks &&
                          column != TopColumn::kAllocs && column != TopColumn::kLimit;
    columns.push_back(
        {head_of(column), is_text ? Table::Align::kLeft : Table::Align::kRight, is_bytes});
  }
  Table table(columns);
  for (const TopRow& row : top_rows(watch.now(), watch.before(), view)) {
    std::vector<std::string> cells;
    for (TopColumn column : kAllColumns) {
      cells.push_back(top_cell(row, column, history, bars_of_stdout()));
    }
    const std::optional<Limit> limit = limit_of(*row.tag);
    table.add(cells, limit ? limit->style : Style::kNone);
  }
  auto [first, second] = watch.summary();
  printf("%s %s\n%s\n%s", clock_time().c_str(), first.c_str(), second.c_str(),
         table.text().c_str());
}

void print_lines(Watch watch, const Options& options) {
  auto next = std::chrono::steady_clock::now();
  while (true) {
    print_block(watch, options.view());
    if (!options.once && !watch.now().is_live) puts("the process has ended");
    if (fflush(stdout) != 0)
      throw Failure(kFailed, std::string("cannot write: ") + strerror(errno));
    if (options.once || !watch.now().is_live) return;
    next += options.every();
    std::this_thread::sleep_until(next);
    puts("");
    watch.refresh();
  }
}

bool has_to_choose(const std::string& target) {
  auto is_live = [](const RecordFile& file) {
    try {
      return Reader(file.path).is_live();
    } catch (const Failure&) {
      return false;  // nobody could choose it
    }
  };
  const std::vector<RecordFile> files = target.empty() ? list_records() : std::vector<RecordFile>();
  return std::count_if(files.begin(), files.end(), is_live) > 1;
}

// The signal that ended it, or 0. What is wrong with the target is said before there is a screen.
int show(const Options& options) {
  if (!has_to_choose(options.target)) {
    Watch watch(open_record(options.target));
    Screen screen;
    show_top(screen, watch, options.every(), options.view());
    return screen.signal();
  }
  Screen screen;
  const std::optional<std::string> chosen = choose_record(screen);
  if (!chosen) return screen.signal();
  Watch watch{Reader(*chosen)};
  show_top(screen, watch, options.every(), options.view());
  return screen.signal();
}

bool read_options(Options* options, int argc, char** argv) {
  Arguments arguments(kTopHelp);
  arguments.add_option("TARGET", options->target);
  arguments.add_option("--interval", options->interval).type_name("SECONDS").take_last();
  arguments.add_option("--sort", options->sort).type_name("KEY").take_last();
  arguments.add_flag("--tree", options->is_tree);
  arguments.add_flag("--once", options->once);
  if (!arguments.read(argc, argv)) return false;
  if (!(options->interval >= 0.1 && options->interval <= 3600)) {
    arguments.fail("--interval: expected seconds, from 0.1 to 3600");
  }
  const bool is_known = std::any_of(std::begin(kTopSorts), std::end(kTopSorts),
                                    [&](const char* sort) { return options->sort == sort; });
  if (!is_known) {
    arguments.fail("--sort " + options->sort +
                   ": expected live, footprint, growth, allocs or name");
  }
  return true;
}

}  // namespace

int top(int argc, char** argv) {
  Options options;
  if (!read_options(&options, argc, argv)) return 0;
  const std::string why = why_no_screen();
  if (options.once || !why.empty()) {
    if (!options.once && has_terminal()) {
      fprintf(stderr, "tally top: %s: lines instead\n", why.c_str());
    }
    print_lines(Watch(open_record(options.target)), options);
    return 0;
  }
  const int signal = show(options);
  if (signal != 0) raise(signal);
  return 0;
}

}  // namespace tally::tool
