// tally limit: what a tag of a running process may hold.
#include <cstdio>
#include <stdexcept>
#include <string>

#include "arguments.h"
#include "commands.h"
#include "limit_size.h"
#include "request.h"
#include "summary.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kLimitHelp[] =
    R"(usage: tally limit TARGET TAG SIZE[:soft=SIZE][:wait=MS|:abort|:fail]
       tally limit TARGET TAG none

Sets what a tag of a running process, and all below it, may hold, in place of the limits that it had;
the tag / is the process. It takes effect at once, and the process answers. A limit below what is held
takes nothing away: no more is given until it fits. A tag that is not there is made.

  SIZE    512M, 1.5G, or a share of what the process may have by its cgroup, else of the machine's
          memory: 90%. none: no limit
  :soft   from there on the program's callbacks are told; nothing is refused
  :wait   who wants more waits for memory to come back, so many milliseconds at most, then fails
  :abort  who wants more ends the program, with a report
  :fail   who wants more gets none; the default
  --help  this text

  TARGET  a process id, or the file of its record

  tally limit 4711 cache 512M:soft=400M
  tally limit 4711 / 90%
  tally limit 4711 /lib/libssl.so.3 none

exit status: 0 after success; or
  1    there is no such process, it has no record, or does not answer
  2    the command line cannot be understood
)";

const record::TagRow* find_tag(const Record& record, const std::string& path) {
  for (const record::TagRow& tag : record.tags()) {
    if (record.name(tag) == path) return &tag;
  }
  return nullptr;
}

std::string policy_text(tally_policy policy) {
  if (policy == TALLY_POLICY_FAIL) return "fails";
  if (policy == TALLY_POLICY_ABORT) return "ends the program";
  return "waits for " + std::to_string(policy >> 8) + " ms at most, then fails";
}

void print_result(const std::string& path, const LimitSettings& limit, const record::TagRow* tag) {
  std::string line = printable(path) + ": ";
  if (limit.hard == TALLY_LIMIT_NONE && limit.soft == TALLY_LIMIT_NONE) {
    line += "no limit";
  } else {
    if (limit.hard != TALLY_LIMIT_NONE) line += "limit " + format_bytes(limit.hard);
    if (limit.soft != TALLY_LIMIT_NONE) {
      line += limit.hard != TALLY_LIMIT_NONE ? ", soft limit " : "soft limit ";
      line += format_bytes(limit.soft);
    }
  }
  if (limit.hard != TALLY_LIMIT_NONE) line += "; who wants more " + policy_text(limit.policy);
  const uint64_t held = tag == nullptr ? 0 : tag->total.footprint_bytes;
  line += tag == nullptr ? "; a new tag" : "; holds " + format_bytes(held);
  if (held > limit.hard) line += ", which is more: no more is given until it fits";
  puts(line.c_str());
}

}  // namespace

int limit(int argc, char** argv) {
  Arguments arguments(kLimitHelp);
  std::string target, tag, size;
  arguments.add_option("TARGET", target);
  arguments.add_option("TAG", tag);
  arguments.add_option("SIZE", size);
  if (!arguments.read(argc, argv)) return 0;
  if (size.empty()) arguments.fail("expected TARGET, TAG and SIZE");

  Reader reader = open_record(target);
  std::string path, reading = tag;
  LimitSettings limit;
  try {
    path = tag_path(tag);
    reading = size;
    limit = read_limit(size, [&] { return memory_of(long(reader.head().pid)); });
  } catch (const std::invalid_argument& expected) {
    arguments.fail(printable(reading) + ": expected " + expected.what());
  }
  const Record before = reader.read();
  bool removes = limit.hard == TALLY_LIMIT_NONE && limit.soft == TALLY_LIMIT_NONE;
  if (removes) require_tag(before, path);  // not made to have no limit

  request_limit(reader, path, limit);
  print_result(path, limit, find_tag(before, path));
  return 0;
}

}  // namespace tally::tool
