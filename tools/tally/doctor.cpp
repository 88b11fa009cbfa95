// tally doctor: what would make Tally not work, or its numbers strange.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "arguments.h"
#include "checks.h"
#include "commands.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kDoctorHelp[] = R"(usage: tally doctor [--json] [PROGRAM|PID]

Looks for what would make Tally not work, or its numbers strange: here, in a program that is to be
run under it, or in a process that runs. Prints a line for each thing that it looked at, which
begins with ok, note or problem, and says what to do.

  PROGRAM   a program, found as `tally run` finds it (one whose name is a number: ./123)
  PID       a process
  --json    an object instead: "findings", each with "level", "about", "text" and "advice"
  --help    this text

Without an argument it looks at this machine and environment: libtally.so, /dev/shm, limits of
memory, huge pages, the backends' libraries, LD_PRELOAD. Of a program: whether anything can be
preloaded into it, a malloc of its own inside, AddressSanitizer, heaps that no malloc sees. Of a
process: whether Tally is in it, where its malloc is from, its record, limits and huge pages.

  tally doctor
  tally doctor ./server
  tally doctor $(pidof server)
  tally doctor --json python3 | jq '.findings[] | select(.level != "ok")'

exit status:
  0    no problem
  1    a problem
  2    the command line cannot be understood
)";

const char* name_of(Level level) {
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kNote:
      return "note";
    case Level::kProblem:
      return "problem";
  }
  return "";
}

void print_text(const Findings& findings) {
  size_t widest = 0;
  for (const auto& finding : findings.all()) widest = std::max(widest, finding.about.size());
  for (const auto& finding : findings.all()) {
    const std::string text = printable(finding.text), advice = printable(finding.advice);
    printf("%-8s %-*s  %s%s%s\n", name_of(finding.level), static_cast<int>(widest),
           finding.about.c_str(), text.c_str(), advice.empty() ? "" : ": ", advice.c_str());
  }
}

void print_json(const Findings& findings) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& finding : findings.all()) {
    list.push_back({{"level", name_of(finding.level)},
                    {"about", finding.about},
                    {"text", printable(finding.text)},
                    {"advice", printable(finding.advice)}});
  }
  puts(nlohmann::ordered_json{{"findings", list}}.dump(2).c_str());
}

bool is_number(const std::string& text) {
  constexpr size_t kMost = 9;  // digits: what fits a pid_t
  return !text.empty() && text.size() <= kMost && text.find_first_not_of("0123456789") == text.npos;
}

}  // namespace

bool Findings::has_problem() const {
  return std::any_of(all_.begin(), all_.end(),
                     [](const auto& finding) { return finding.level == Level::kProblem; });
}

int doctor(int argc, char** argv) {
  std::string target;
  bool json = false;
  Arguments arguments(kDoctorHelp);
  arguments.add_flag("--json", json);
  arguments.add_option("TARGET", target);
  if (!arguments.read(argc, argv)) return 0;
  Findings findings;
  if (target.empty()) {
    check_system(findings);
  } else if (is_number(target)) {
    check_process(findings, std::stoi(target));
  } else {
    check_program(findings, target);
  }
  json ? print_json(findings) : print_text(findings);
  return findings.has_problem() ? 1 : 0;
}

}  // namespace tally::tool
