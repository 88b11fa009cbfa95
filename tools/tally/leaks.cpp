// tally leaks: what lives, and whether it looks like a leak.
#include <cstdio>
#include <string>

#include "arguments.h"
#include "commands.h"
#include "leak_report.h"
#include "profile_view.h"
#include "summary.h"
#include "target.h"

namespace tally::tool {
namespace {

constexpr char kLeaksHelp[] = R"(usage: tally leaks [OPTION...] [TARGET]

Shows which stacks allocated what was not freed, the oldest and largest first (by bytes times age), as
far as the library sampled it (TALLY_SAMPLE; `tally run` sets it): BYTES and BLOCKS are estimates, AGE
is from the newest to the oldest sample, GREW what came since the middle of the run, and FREED how many
of the blocks that this stack allocated under this tag were freed. Whether the program still needs a
block nobody can tell from outside: of one that runs or was killed much is in use.

  TARGET      a process id, or the file of a record (a file whose name is a number: ./123); may be
              left out where only one running process has a record
  --tag PATH  only this tag and those below it
  --rows N    so many stacks, 10 if left out; 0: all
  --frames N  so many calls of each, 6 if left out; 0: all
  --help      this text

  tally leaks 4711
  tally run --leaks ./program

exit status: 0, or
  1    there is no such process, it was not sampled, or its record cannot be read
  2    the command line cannot be understood
)";

}  // namespace

int leaks(int argc, char** argv) {
  Arguments arguments(kLeaksHelp);
  std::string target, tag = "/";
  TableSize size;
  arguments.add_option("TARGET", target);
  arguments.add_option("--tag", tag).type_name("PATH").take_last();
  declare_size(arguments, &size);
  if (!arguments.read(argc, argv)) return 0;

  Reader reader = open_record(target);
  const Record record = reader.read();
  const Profile profile = require_profile(reader);
  tag = require_tag_of(record, profile, tag);
  Symbols symbols(profile, root_of(reader.path(), record.head.pid, record.is_live));
  const std::string report = leak_report(record, profile, symbols, tag, size);
  printf("%s%s", heading(record).c_str(), report.c_str());
  print_complaints(symbols, "tally leaks", stderr);
  return 0;
}

}  // namespace tally::tool
