// tally run: sets the environment and becomes the program. No process stays between: its exit
// status, signals, terminal and process id are what they would be without Tally.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "commands.h"
#include "environment.h"
#include "executable.h"
#include "failure.h"
#include "libraries.h"

namespace tally::tool {
namespace {

constexpr char kHelp[] = R"(usage: tally run [OPTION...] [--] PROGRAM [ARG...]

Runs PROGRAM with Tally as its malloc. At its end a table on stderr shows where its memory is.

  --backend NAME[=PATH]   where memory comes from: os, libc, jemalloc or mimalloc; PATH is its
                          library, else that is looked for as the dynamic linker does it
  --limit SIZE            what the process may hold: 2G, 90%, 2G:soft=1.5G; :wait=MS, :abort or
                          :fail at the end says what happens to who wants more
  --limit TAG=SIZE        likewise a tag and all below it: cache=512M:soft=400M; as often as wanted
  --report FILE           the table goes there, as JSON if its name ends in .json; %p in it is the
                          process id
  --quiet                 no table
  --option NAME=VALUE     TALLY_NAME=VALUE: whatever else the library takes; as often as wanted
  --library PATH          libtally.so; else TALLY_LIBRARY names it, else it is near this program
  --help                  this text

They become variables that the library reads, beside those that the environment has; where both
are about the same, the option holds. If TALLY_BACKEND is there its library comes too, and what
LD_PRELOAD names is loaded after Tally. All that PROGRAM starts is under Tally as well, and prints a
table of its own.

  tally run python3 script.py
  tally run --limit 2G --limit cache=512M:soft=400M --report /tmp/heap-%p.json ./server --port 80
  tally run --backend jemalloc --option purge_ms=200 ./server

exit status: that of PROGRAM, for `tally` becomes PROGRAM and no process stays between; or
  2    the command line cannot be understood
  78   no libtally.so, no library of the backend, or nothing can be preloaded into PROGRAM
  126  PROGRAM may not be run
  127  PROGRAM was not found
)";

struct Arguments {
  std::string backend, library, report;
  std::vector<std::string> limits, options;
  bool quiet = false, help = false;
  char** program = nullptr;  // the end of argv
};

[[noreturn]] void fail_usage(const std::string& message) {
  throw Failure(kUsage, message + "; tally run --help shows how it is used");
}

Arguments read_arguments(int argc, char** argv) {
  Arguments arguments;
  CLI::App app;
  app.set_help_flag();   // prints one of its own
  app.prefix_command();  // all from PROGRAM on is its own
  app.add_flag("--help,-h", arguments.help);
  app.add_option("--backend", arguments.backend)->type_name("NAME")->take_last();
  app.add_option("--limit", arguments.limits)->type_name("SIZE")->allow_extra_args(false);
  CLI::Option* report =
      app.add_option("--report", arguments.report)->type_name("FILE")->take_last();
  app.add_flag("--quiet", arguments.quiet)->excludes(report);
  app.add_option("--option", arguments.options)->type_name("NAME=VALUE")->allow_extra_args(false);
  app.add_option("--library", arguments.library)->type_name("PATH")->take_last();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    fail_usage(error.what());
  }
  if (arguments.help) return arguments;
  // What CLI11 does not know and what it leaves to us are in one list, in their order.
  std::vector<std::string> rest = app.remaining();
  arguments.program = argv + argc - rest.size();
  // To CLI11 this means that the value comes next: it might be PROGRAM.
  for (char** at = argv; at != arguments.program; ++at) {
    const std::string text = *at;
    if (text.starts_with("--") && text.find('=') == text.size() - 1) fail_usage(text + " is empty");
  }
  if (!rest.empty() && rest[0] == "--") {
    ++arguments.program;
  } else if (!rest.empty() && rest[0].size() > 1 && rest[0][0] == '-') {
    fail_usage("unknown option " + rest[0]);
  }
  if (*arguments.program == nullptr) fail_usage("no PROGRAM");
  return arguments;
}

// "cache=512M:soft=400M" is of a tag, "2G:soft=1G" of the process.
bool is_of_a_tag(const std::string& limit) {
  return limit.substr(0, limit.find(':')).find('=') != limit.npos;
}

void set_limits(const std::vector<std::string>& limits) {
  for (const std::string& limit : limits) {
    if (is_of_a_tag(limit)) {
      // Of two limits of a tag the last holds; those of other tags stay.
      std::string list = option("limits").value_or("");
      if (!list.empty()) list += ',';
      set_option("limits", list + limit);
    } else {
      set_option("limit", limit);
    }
  }
}

void set_options(const std::vector<std::string>& options) {
  for (const std::string& pair : options) {
    size_t equals = pair.find('=');
    bool has_both = equals != 0 && equals != pair.npos;
    if (!has_both) fail_usage("--option " + pair + ": expected NAME=VALUE");
    const std::string name = pair.substr(0, equals);
    constexpr char kPrefix[] = "TALLY_";
    const bool is_whole = name.starts_with(kPrefix);
    set_option(is_whole ? name.substr(sizeof kPrefix - 1) : name, pair.substr(equals + 1));
  }
}

// Sets the backend, if one was asked for. Its library, if it needs one: to be preloaded.
std::string set_backend(const std::string& asked) {
  std::string name = asked.substr(0, asked.find('='));
  if (!asked.empty()) {
    const Backend* backend = find_backend(name);
    if (backend == nullptr) fail_usage("--backend " + asked + ": expected " + backend_names());
    set_option("backend", name);
    if (name.size() != asked.size()) {
      std::string path = asked.substr(name.size() + 1);
      if (path.empty()) fail_usage("--backend " + asked + ": expected a path after =");
      if (backend->files.empty()) fail_usage("--backend " + asked + ": it has no library");
      return backend_library(*backend, path);
    }
  }
  const Backend* backend = find_backend(option("backend").value_or("os"));
  bool needs_library = backend != nullptr && !backend->files.empty();  // nullptr: Tally says so
  return needs_library ? find_backend_library(*backend, linker_search_path()) : "";
}

void set_report(const Arguments& arguments) {
  if (arguments.quiet) {
    set_option("report", "0");
  } else if (!arguments.report.empty()) {
    // Wherever the program is by then. And a file called "1" is a path so.
    set_option("report", std::filesystem::absolute(arguments.report));
  } else if (!option("report")) {
    set_option("report", "1");
  }
}

}  // namespace

int run(int argc, char** argv) {
  const Arguments arguments = read_arguments(argc, argv);
  if (arguments.help) {
    fputs(kHelp, stdout);
    return 0;
  }
  set_options(arguments.options);
  set_limits(arguments.limits);
  set_report(arguments);
  const std::string program = find_program(*arguments.program);
  require_preloadable(program);

  std::string preload = arguments.library.empty() ? variable("TALLY_LIBRARY") : arguments.library;
  preload = find_tally_library(preload);
  unsetenv("TALLY_LIBRARY");  // is this program's, and no option of the library
  const std::string already = variable("LD_PRELOAD");
  unsetenv("LD_PRELOAD");  // for what set_backend starts
  const std::string backend = set_backend(arguments.backend);
  if (!backend.empty()) preload += ":" + backend;
  if (!already.empty()) preload += ":" + already;
  setenv("LD_PRELOAD", preload.c_str(), 1);

  execvp(program.c_str(), arguments.program);
  int error = errno;
  throw Failure(error == ENOENT ? kNotFound : kCannotRun,
                std::string(*arguments.program) + ": " + strerror(error));
}

}  // namespace tally::tool
