// tally profile: which stacks allocated what.
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "arguments.h"
#include "commands.h"
#include "failure.h"
#include "output.h"
#include "profile_formats.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kProfileHelp[] = R"(usage: tally profile [OPTION...] [TARGET]

Shows which stacks allocated what lives, by the blocks that the library sampled (TALLY_SAMPLE; `tally
run` sets it): each stands for as many as were likely allocated around it, so that all figures are
estimates, the better the more samples are behind them. The process is not asked: it may run, hang or
be dead. Functions and lines come from the debug information of the program's files, or of debug files
(/usr/lib/debug; a debuginfod server where DEBUGINFOD_URLS names one).

  TARGET           a process id, or the file of a record (a file whose name is a number: ./123); may
                   be left out where only one running process has a record
  --live           what was not freed; if no other view is asked for
  --allocated      what was allocated since sampling began, freed or not
  --peak           what lived when the footprint was largest
  --growth         what lives and did not in the middle of the run, between 1/2 and 3/4 of its time
                   ago
  --stale TIME     what lives for longer than TIME: 90s, 10m, 2h, 1d
  --lifetimes      how long those lived that were freed
  --every SECONDS  with --growth or --allocated: reads a running process twice, so far apart, and
                   shows what came between
  --tag PATH       only this tag and those below it
  --format FORMAT  table, if left out; pprof, gzipped, for `go tool pprof` and what reads its files;
                   folded, for flamegraph.pl and speedscope; or json
  -o FILE          writes FILE
  --rows N         so many stacks in a table, 10 if left out; 0: all
  --frames N       so many calls of each, 6 if left out; 0: all
  --help           this text

  tally profile 4711
  tally profile --growth --every 60 --tag /cache 4711
  tally profile --format pprof -o heap.pb.gz 4711; go tool pprof -http : heap.pb.gz
  tally profile --format folded 4711 | flamegraph.pl --countname bytes >heap.svg

exit status: 0, or
  1    there is no such process, it was not sampled, or its record cannot be read
  2    the command line cannot be understood
)";

struct Options {
  std::vector<std::string> views;
  std::string target, view, stale, format = "table", file = "-";
  std::string tag = "/";
  double every = 0;
  TableSize size;
};

constexpr struct {
  const char* name;
  ViewKind kind;
} kViews[] = {{"live", ViewKind::kLive},   {"allocated", ViewKind::kAllocated},
              {"peak", ViewKind::kPeak},   {"growth", ViewKind::kGrowth},
              {"stale", ViewKind::kStale}, {"lifetimes", ViewKind::kLifetimes}};

void declare(Arguments& arguments, Options* options) {
  arguments.add_option("TARGET", options->target);
  arguments.add_flag(
      "--live{live},--allocated{allocated},--peak{peak},--growth{growth},--lifetimes{lifetimes}",
      options->views);
  arguments.add_option("--stale", options->stale).type_name("TIME").take_last();
  arguments.add_option("--every", options->every).type_name("SECONDS").take_last();
  arguments.add_option("--tag", options->tag).type_name("PATH").take_last();
  arguments.add_option("--format", options->format).take_last();
  arguments.add_option("-o,--output", options->file).type_name("FILE").take_last();
  declare_size(arguments, &options->size);
}

// What the options ask for, but the tag.
ViewOptions view_options(const Arguments& arguments, Options* options) {
  if (!options->stale.empty()) options->views.push_back("stale");
  if (options->views.size() > 1) {
    arguments.fail(
        "expected one of --live, --allocated, --peak, --growth, --stale, --lifetimes, not several");
  }
  options->view = options->views.empty() ? "live" : options->views.front();
  if (options->file.empty()) arguments.fail("-o: expected a FILE, or -");
  ViewOptions view;
  for (const auto& [name, kind] : kViews) {
    if (options->view == name) view.kind = kind;
  }
  if (view.kind == ViewKind::kStale) {
    const std::optional<uint64_t> time = read_duration(options->stale);
    if (!time)
      arguments.fail("--stale " + options->stale + ": expected a time as 90s, 10m, 2h, 1d");
    view.stale_ns = *time;
  }
  const bool is_two = view.kind == ViewKind::kGrowth || view.kind == ViewKind::kAllocated;
  constexpr double kMost = 1e6;
  if (options->every != 0) {
    if (!is_two) arguments.fail("--every goes with --growth or --allocated");
    if (!(options->every > 0 && options->every <= kMost)) {
      arguments.fail("--every: expected seconds, above 0 and at most 1000000");
    }
  }
  const std::string& format = options->format;
  if (format != "table" && format != "pprof" && format != "folded" && format != "json") {
    arguments.fail("--format " + format + ": expected table, pprof, folded or json");
  }
  const bool has_bytes = format == "pprof" || format == "folded";
  if (view.kind == ViewKind::kLifetimes && has_bytes) {
    arguments.fail("--lifetimes is shown as table or json, not as " + format);
  }
  if (format == "pprof" && options->file == "-" && has_terminal()) {
    arguments.fail("--format pprof is no text for a terminal: say -o FILE, or pipe it");
  }
  return view;
}

std::string text_of(const ShownProfile& shown, const Options& options) {
  if (options.format == "pprof") return profile_as_pprof(shown);
  if (options.format == "folded") return profile_as_folded(shown);
  if (options.format == "json") return profile_as_json(shown);
  return profile_as_table(shown, options.size);
}

}  // namespace

int profile(int argc, char** argv) {
  Options options;
  Arguments arguments(kProfileHelp);
  declare(arguments, &options);
  if (!arguments.read(argc, argv)) return 0;
  ViewOptions what = view_options(arguments, &options);

  Reader reader = open_record(options.target);
  std::optional<Profile> before;
  if (options.every != 0) {
    if (!reader.is_live())
      throw Failure(kFailed, reader.path() + ": --every is for a process that runs");
    before = require_profile(reader);
    std::this_thread::sleep_for(std::chrono::duration<double>(options.every));
  }
  const Record record = reader.read();
  const Profile profile = require_profile(reader);
  what.tag = require_tag_of(record, profile, options.tag);
  const View view = view_of(profile, what, before ? &*before : nullptr);
  Symbols symbols(profile, root_of(reader.path(), record.head.pid, record.is_live));
  write_output(options.file, text_of({record, profile, view, symbols}, options));
  print_complaints(symbols, "tally profile", stderr);
  return 0;
}

}  // namespace tally::tool
