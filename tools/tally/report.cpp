// tally report: all of a record as a page.
#include <cstdio>
#include <string>

#include "arguments.h"
#include "commands.h"
#include "failure.h"
#include "output.h"
#include "record_reader.h"
#include "report_data.h"
#include "report_page.h"
#include "symbols.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kReportHelp[] = R"(usage: tally report [OPTION...] [TARGET]

Makes a page of all that a record says: RSS as a sum, tags as areas and over time, limits and what
happened at them, the stacks that allocated as flame graph and icicle, what has been live for long,
and fragmentation; each with what it means and what to do. The page is one file that loads nothing,
and can be sent to others. Functions are named by the debug information of this machine.

  TARGET        a process id, or the file of a record (a file whose name is a number: ./123); may be
                left out where only one running process has a record
  -o, --output FILE
                where it goes, - for stdout; tally-report-PID.html in this folder by default. A file
                that is there is replaced
  --json        what the page shows as JSON, on stdout or in the FILE of -o
  --help        this text

  tally report 4711
  tally report -o /tmp/leak.html 4711
  tally report --json 4711 | jq -r '.findings[].text'

exit status: 0, or
  1    there is no such process, its record cannot be read, or the file cannot be written
  2    the command line cannot be understood
  78   tally was built without the page; --json works
)";

}  // namespace

int report(int argc, char** argv) {
  Arguments arguments(kReportHelp);
  std::string target, output;
  bool wants_json = false;
  arguments.add_option("TARGET", target);
  const Option output_option =
      arguments.add_option("-o,--output", output).type_name("FILE").take_last();
  arguments.add_flag("--json", wants_json);
  if (!arguments.read(argc, argv)) return 0;
  if (output_option.is_given() && output.empty()) arguments.fail("-o: expected a FILE, or -");
  if (!wants_json && !has_report_page()) {
    throw Failure(kConfiguration, "this tally was built without the page: " + why_no_report_page() +
                                      " --json gives what it would show");
  }

  Reader reader = open_record(target);
  const Profile profile = reader.read_profile();
  const long pid = static_cast<long>(reader.head().pid);
  Symbols symbols(profile, root_of(reader.path(), pid, reader.is_live()));
  const nlohmann::ordered_json data = report_data(reader, profile, symbols);
  const std::string text =
      wants_json
          ? data.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n"
          : report_page(data);
  if (output.empty()) output = wants_json ? "-" : "tally-report-" + std::to_string(pid) + ".html";
  write_output(output, text);
  if (output == "-") return 0;
  printf("wrote %s, %s\n", output.c_str(), format_bytes(text.size()).c_str());
  return 0;
}

}  // namespace tally::tool
