// tally run: sets the environment and starts the program, or becomes it.
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "commands.h"
#include "environment.h"
#include "executable.h"
#include "failure.h"
#include "last_record.h"
#include "libraries.h"
#include "limit_size.h"
#include "post_mortem.h"
#include "supervise.h"

namespace tally::tool {
namespace {

constexpr char kRunHelp[] = R"(usage: tally run [OPTION...] [--] PROGRAM [ARG...]

Runs PROGRAM with Tally as its malloc. At its end a table on stderr shows where its memory is. If a
signal ended it, what it held then, what grew before, and what happened at limits is told, and
likewise if it exits past its exit handlers.

  --tag-by RULE           what memory that PROGRAM does not tag itself is counted under: module (the
                          library or program whose code allocates; the default), thread (its name)
                          or none
  --limit SIZE            what the process may hold: 2G, 90%, 2G:soft=1.5G; :wait=MS, :abort or
                          :fail at the end says what happens to who wants more
  --limit TAG=SIZE        likewise a tag and all below it: cache=512M:soft=400M; as often as wanted
  --backend NAME[=PATH]   where memory comes from: os, libc, jemalloc or mimalloc; PATH is its
                          library, else that is looked for as the dynamic linker does it
  --json FILE             no table: JSON into FILE, which ends in .json; %p in it is the process id
  --report FILE           the table goes there, as JSON if its name ends in .json; %p as above
  --children              all that PROGRAM starts has its table too, or with %p its file
  --quiet                 no table, and nothing when a signal ended PROGRAM
  --no-record             no record: nothing for `tally top` and the like to look at, nor if PROGRAM
                          is killed
  --record                a record, even if the environment says otherwise
  --sample SIZE           has the stack of one block in so many allocated bytes recorded, for `tally
                          profile`; 512K, if left out; 0: of none
  --leaks                 at the end, however it comes: what was not freed, as `tally leaks` shows it
  --exec                  becomes PROGRAM: no process stays between, and nothing is told of its end
  --option NAME=VALUE     TALLY_NAME=VALUE: whatever else the library takes; as often as wanted
  --library PATH          libtally.so; else TALLY_LIBRARY names it, else it is near this program
  --hardened              libtally-hardened.so, which is near this program: finds misuse of memory,
                          and takes more time
  --help                  this text

Options become variables that the library reads, beside those that the environment has; where both
are about the same, the option holds. Without either, TALLY_TAG_BY is module, TALLY_RECORD 1,
TALLY_RECORD_MS 1000 (of who has capabilities, as root has, 0: no thread of Tally's, which would keep
them when the program drops its own), TALLY_SAMPLE 512K and TALLY_REPORT 1. If TALLY_BACKEND is there
its library comes too, and what LD_PRELOAD names is loaded after Tally. All that PROGRAM starts is
under Tally as well, and has a record; the table at the end is of PROGRAM's own process
(TALLY_REPORT_PID).

PROGRAM is a child of `tally run`, in its process group and on its terminal. Signals that are sent
to `tally run` are passed on, but for those that the terminal sends to both. (A signal that somebody
else sends to the whole group comes twice.) When PROGRAM stops, so does `tally run`, and if `tally
run` is killed by SIGKILL, so is PROGRAM. A record that a killed process of PROGRAM's number left, as
it is where a container is started anew, is kept beside the new one as last.tally.

  tally run ./server --port 80
  tally run env PYTHONMALLOC=malloc python3 script.py    (else it has an allocator of its own inside)
  tally run --limit 2G --limit cache=512M:soft=400M --json /tmp/heap-%p.json ./server --port 80
  tally run --backend jemalloc --option purge_ms=200 ./server
  tally run --quiet --leaks ./program
  tally run --exec ./daemon --pid-file /run/daemon.pid

exit status: that of PROGRAM, or death by the signal that PROGRAM died by; or
  2    the command line cannot be understood
  78   no libtally.so, no library of the backend, or nothing can be preloaded into PROGRAM
  126  PROGRAM may not be run
  127  PROGRAM was not found
)";

struct Invocation {
  std::string tag_by, record, backend, library, report, json;
  std::optional<std::string> sample;
  std::vector<std::string> limits, options;
  bool children = false, quiet = false, exec = false, leaks = false, hardened = false, help = false;
  char** program = nullptr;  // the end of argv
};

[[noreturn]] void fail_usage(const std::string& message) {
  throw Failure(kUsage, message + "; tally run --help shows how it is used");
}

void declare(CLI::App& app, Invocation& arguments) {
  app.set_help_flag();   // prints one of its own
  app.prefix_command();  // all from PROGRAM on is its own
  app.add_flag("--help,-h", arguments.help);
  app.add_option("--tag-by", arguments.tag_by)->type_name("RULE")->take_last();
  app.add_option("--backend", arguments.backend)->type_name("NAME")->take_last();
  app.add_option("--limit", arguments.limits)->type_name("SIZE")->allow_extra_args(false);
  CLI::Option* report =
      app.add_option("--report", arguments.report)->type_name("FILE")->take_last();
  CLI::Option* json =
      app.add_option("--json", arguments.json)->type_name("FILE")->take_last()->excludes(report);
  app.add_flag("--children", arguments.children);
  app.add_flag("--quiet", arguments.quiet)->excludes(report)->excludes(json);
  app.add_flag("--record{1},--no-record{0}", arguments.record)->take_last();
  app.add_option("--sample", arguments.sample)->type_name("SIZE")->take_last();
  CLI::Option* leaks = app.add_flag("--leaks", arguments.leaks);
  app.add_flag("--exec", arguments.exec)->excludes(leaks);
  app.add_option("--option", arguments.options)->type_name("NAME=VALUE")->allow_extra_args(false);
  CLI::Option* library =
      app.add_option("--library", arguments.library)->type_name("PATH")->take_last();
  app.add_flag("--hardened", arguments.hardened)->excludes(library);
}

Invocation read_arguments(int argc, char** argv) {
  Invocation arguments;
  CLI::App app;
  declare(app, arguments);
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

bool is_off(const std::string& value) {
  return value == "0" || value == "no" || value == "false" || value == "off";
}

bool is_on(const std::string& value) {
  return value == "1" || value == "yes" || value == "true" || value == "on";
}

void set_default(std::string_view name, const std::string& value) {
  if (!option(name)) set_option(name, value);
}

// "cache=512M:soft=400M" is of a tag, "2G:soft=1G" of the process.
bool is_of_a_tag(const std::string& limit) {
  return limit.substr(0, limit.find(':')).find('=') != limit.npos;
}

// A program without the limit that was asked for would run on as if it had one.
void require_limit(const std::string& limit) {
  const size_t size = is_of_a_tag(limit) ? limit.find('=') + 1 : 0;
  try {
    if (size != 0) tag_path(limit.substr(0, size - 1));
    read_limit(limit.substr(size), [] { return memory_of(getpid()); });
  } catch (const std::invalid_argument& expected) {
    fail_usage("--limit " + limit + ": expected " + expected.what());
  }
}

void set_limits(const std::vector<std::string>& limits) {
  for (const std::string& limit : limits) {
    std::istringstream parts(limit);
    for (std::string part; std::getline(parts, part, ',');) require_limit(part);
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

void set_report(const Invocation& arguments) {
  const std::string& file = arguments.json.empty() ? arguments.report : arguments.json;
  if (!arguments.json.empty() && !file.ends_with(".json")) {
    fail_usage("--json " + file + ": expected a name that ends in .json");
  }
  if (arguments.quiet) {
    set_option("report", "0");
  } else if (!file.empty()) {
    // Wherever the program is by then. And a file called "1" is a path so.
    set_option("report", std::filesystem::absolute(file));
  } else {
    set_default("report", "1");
  }
}

void set_tag_by(const std::string& rule) {
  if (rule.empty()) {
    set_default("tag_by", "module");
  } else if (rule == "module" || rule == "thread" || rule == "none") {
    set_option("tag_by", rule);
  } else {
    fail_usage("--tag-by " + rule + ": expected module, thread or none");
  }
}

// A process that has some may be about to give them up, which a thread has to do for itself: with
// one of Tally's, that keeps its own, libc would end the program in setuid.
bool has_capabilities() {
  __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return syscall(SYS_capget, &head, data) == 0 && (data[0].permitted | data[1].permitted) != 0;
}

void set_record(const std::string& wanted) {
  const bool is_kept = wanted == "1" && option("record") == "keep";
  if (!wanted.empty() && !is_kept) set_option("record", wanted);
  set_default("record", "1");
  if (!has_capabilities()) set_default("record_ms", "1000");
}

// True if the record was to be kept anyway.
bool set_sample(const Invocation& arguments) {
  // As for limits: the library would only remark on it, and run without.
  auto check = [](const std::string& what, const std::string& size) {
    constexpr uint64_t kMost = uint64_t{1} << 40;
    const std::optional<uint64_t> bytes = read_size(size);
    if (is_off(size) || is_on(size) || (bytes && *bytes <= kMost)) return;
    fail_usage(what + ": expected bytes between samples, such as 512K, at most 1T, or 0");
  };
  if (arguments.sample) {
    check("--sample " + *arguments.sample, *arguments.sample);
    set_option("sample", *arguments.sample);
  }
  set_default("sample", "512K");
  if (arguments.leaks) check("TALLY_SAMPLE=" + *option("sample"), *option("sample"));
  const std::optional<std::string> record = option("record");
  if (!arguments.leaks) return record == "keep";
  if (record == "0") fail_usage("--leaks is read from the record: it cannot be without one");
  if (is_off(*option("sample"))) fail_usage("--leaks needs samples: TALLY_SAMPLE is off");
  set_option("record", "keep");
  return record == "keep";
}

void set_preload(const Invocation& arguments, const std::string& program) {
  std::string preload;
  if (!has_tally_inside(program)) {
    preload = arguments.library.empty() ? variable("TALLY_LIBRARY") : arguments.library;
    preload =
        arguments.hardened ? find_tally_library("", kHardenedLibrary) : find_tally_library(preload);
  }
  unsetenv("TALLY_LIBRARY");  // is this program's, and no option of the library
  const std::string already = variable("LD_PRELOAD");
  unsetenv("LD_PRELOAD");  // for what set_backend starts
  const std::string backend = set_backend(arguments.backend);
  for (const std::string& next : {backend, already}) {
    if (!preload.empty() && !next.empty()) preload += ":";
    preload += next;
  }
  if (!preload.empty()) setenv("LD_PRELOAD", preload.c_str(), 1);
}

void tell_end(const Ending& ending, const Invocation& arguments, bool is_kept) {
  if (WIFSIGNALED(ending.status)) {
    if (!arguments.quiet) print_post_mortem(ending, stderr);
    if (arguments.leaks) print_leaks(ending, true, stderr);
    return;
  }
  const std::string report = option("report").value_or("0");
  const bool is_told =
      print_silent_end(ending, is_kept || arguments.leaks, is_off(report) ? nullptr : stderr);
  if (is_told && report.find('/') != report.npos) {
    fprintf(stderr, "%s was not written\n", report.c_str());
  }
  if (arguments.leaks) print_leaks(ending, is_kept, stderr);
}

}  // namespace

int run(int argc, char** argv) {
  const Invocation arguments = read_arguments(argc, argv);
  if (arguments.help) {
    fputs(kRunHelp, stdout);
    return 0;
  }
  set_options(arguments.options);
  set_limits(arguments.limits);
  set_report(arguments);
  set_tag_by(arguments.tag_by);
  set_record(arguments.record);
  const bool is_kept = set_sample(arguments);
  const std::string program = find_program(*arguments.program);
  require_preloadable(program);
  set_preload(arguments, program);
  if (arguments.exec) {
    if (!arguments.children) setenv(kReportPid, std::to_string(getpid()).c_str(), 1);
    keep_last_record();
    execvp(program.c_str(), arguments.program);
    fail_to_run(*arguments.program, errno);
  }
  const Ending ending = supervise(program, arguments.program, arguments.children);
  tell_end(ending, arguments, is_kept);
  return end_like(ending);
}

}  // namespace tally::tool
