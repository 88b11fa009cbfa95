#include "runtime/report.h"

#include <string.h>

#include "backend/backend.h"
#include "base/check.h"
#include "base/options.h"
#include "base/text.h"
#include "os/libc.h"
#include "os/os.h"
#include "stats/render.h"

namespace tally::core {
namespace {

bool ends_in_json(const char* path) {
  size_t length = strlen(path);
  return length >= 5 && strcmp(path + length - 5, ".json") == 0;
}

bool write_json(int fd, void* /*unused*/) { return render_to_fd(render_json, fd) == 0; }
bool write_table(int fd, void* /*unused*/) { return render_to_fd(render_table, fd) == 0; }

constinit os::FileId g_stderr;  // as the program found it
constinit int g_stderr_copy = -1;

}  // namespace

// The descriptor by which the program's stderr can still be reached; -1 if there is none, as where
// it had none. It may have closed both by now, and given their numbers to files of its own.
int program_stderr() {
  if (os::file_id(g_stderr_copy) == g_stderr) return g_stderr_copy;
  return os::file_id(2) == g_stderr ? 2 : -1;
}

// Not inlined: its buffer would lie on the stack while a dump is written.
TALLY_NOINLINE void complain_cannot(const char* option, const char* verb, const char* object) {
  char buffer[2 * kOptionPathMax + 128];
  TextWriter line(buffer, sizeof buffer);
  line.put("tally: ").put(option).put(": cannot ").put(verb).put(' ').put(object).put(": ");
  line.put(os::error_text(os::last_error())).put('\n');
  os::write_all(program_stderr(), buffer, line.used());
}

namespace {

void write_report(const char* option, const char* pattern) {
  char path[2 * kOptionPathMax];
  TextWriter name(path, sizeof path - 1);
  for (const char* at = pattern; *at != 0; ++at) {
    if (at[0] == '%' && at[1] == 'p') {
      name.number(static_cast<uint64_t>(os::process_id()));
      ++at;
    } else {
      name.put(*at);
    }
  }
  path[name.used()] = 0;
  bool ok = os::replace_file(path, ends_in_json(path) ? write_json : write_table, nullptr);
  if (!ok) complain_cannot(option, "write", path);
}

void on_dump_signal(int /*signal*/) { write_report("TALLY_DUMP_PATH", options.dump_path); }

}  // namespace

void prepare_report() {
  g_stderr = os::file_id(2);
  // Many programs close stderr before they end, to see whether all was written.
  if (options.report && options.report_path[0] == 0) g_stderr_copy = os::keep_descriptor(2);
}

void report_at_exit() {
  if (!options.report) return;
  if (options.report_pid != 0 && options.report_pid != os::process_id()) return;
  backend::ask_surplus(true);
  if (options.report_path[0] == 0) {
    render_to_fd(render_table, program_stderr());
  } else {
    write_report("TALLY_REPORT", options.report_path);
  }
}

// Who reads our stderr to its end must not wait for a daemon. A child that keeps its stderr reports
// there.
void let_go_of_stderr() {
  if (g_stderr_copy >= 0 && os::file_id(g_stderr_copy) == g_stderr) {
    os::drop_descriptor(g_stderr_copy);
  }
  g_stderr_copy = -1;
}

void prepare_dumps() {
  if (options.dump_signal == 0 || os::on_signal(options.dump_signal, on_dump_signal)) return;
  complain_cannot("TALLY_DUMP_SIGNAL", "catch", "the signal");
}

}  // namespace tally::core
