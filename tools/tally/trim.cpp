// tally trim: a running process gives back what it does not use.
#include <cstdio>
#include <string>

#include "arguments.h"
#include "commands.h"
#include "process.h"
#include "request.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kTrimHelp[] = R"(usage: tally trim [TARGET]

Has a running process give back to the system what it keeps and does not use: empty slabs, free pages
and spans, and of threads that have ended the pages between live blocks. (tally ledger tells how much
that is.) Pages between blocks of a thread that runs are its own to give back: it does by malloc_trim.

  --help  this text

  TARGET  a process id, or the file of its record; nothing, where one running process has one

  tally trim 4711

exit status: 0 after success, also where there was nothing to give back; or
  1    there is no such process, it has no record, or does not answer
  2    the command line cannot be understood
)";

uint64_t rss_of(const Reader& reader) {
  auto status = process_status(long(reader.head().pid));
  return status ? status->rss : 0;
}

}  // namespace

int trim(int argc, char** argv) {
  Arguments arguments(kTrimHelp);
  std::string target;
  arguments.add_option("TARGET", target);
  if (!arguments.read(argc, argv)) return 0;
  Reader reader = open_record(target);
  const uint64_t before = rss_of(reader);
  const uint64_t bytes = request_trim(reader);
  printf("%s went back: RSS was %s, is %s\n", format_bytes(bytes).c_str(),
         format_bytes(before).c_str(), format_bytes(rss_of(reader)).c_str());
  return 0;
}

}  // namespace tally::tool
