#include "runtime/report.h"

#include <string.h>

#include "base/options.h"
#include "base/text.h"
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
  if (os::replace_file(path, ends_in_json(path) ? write_json : write_table, nullptr)) return;
  char buffer[2 * kOptionPathMax + 128];
  TextWriter line(buffer, sizeof buffer);
  line.put("tally: ").put(option).put(": cannot write ").put(path).put(": ");
  line.put(os::error_text(os::last_error())).put("\n");
  os::write_all(2, buffer, line.used());
}

constinit int g_stderr = -1;

}  // namespace

void prepare_report() {
  // Many programs close stderr before they end, to see whether all was written.
  if (options.report && options.report_path[0] == 0) g_stderr = os::keep_descriptor(2);
}

void report_at_exit() {
  if (!options.report) return;
  if (options.report_path[0] == 0) {
    render_to_fd(render_table, g_stderr >= 0 ? g_stderr : 2);
  } else {
    write_report("TALLY_REPORT", options.report_path);
  }
}

void dump_now() { write_report("TALLY_DUMP_PATH", options.dump_path); }

}  // namespace tally::core
