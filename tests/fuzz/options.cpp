// An input is an environment, or the file that TALLY_TAGS names and the names that its rules are
// for. Whatever it is, options stay within their bounds, names become paths that tags may have,
// and what is said is said in lines that leave a terminal as it is.
#include "base/options.h"

#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "input.hpp"
#include "runtime/limit_options.h"
#include "runtime/options.h"
#include "runtime/tag_options.h"
#include "tag/rule.h"
#include "tag/tag.h"
#include "tally/tally.h"

namespace {

// What the library wrote to stderr since it was cleared.
std::string said;

}  // namespace

// Calls of tally::core::os::write_all; the linker leads them here.
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" bool __wrap__ZN5tally4core2os9write_allEiPKcm(int, const char* text, size_t length) {
  said.append(text, length);
  return true;
}

namespace tally::fuzz {
namespace {

using core::options;

void check_said() {
  while (!said.empty()) {
    const size_t end = said.find('\n');
    FUZZ_CHECK(end != std::string::npos && end < 1024);
    const std::string line = said.substr(0, end);
    said.erase(0, end + 1);
    FUZZ_CHECK(line.starts_with("tally: "));
    for (size_t i = 0; i < line.size(); ++i) {
      const auto c = static_cast<unsigned char>(line[i]);
      FUZZ_CHECK(c >= 0x20 && c != 0x7f);
      const auto before = static_cast<unsigned char>(i == 0 ? 0 : line[i - 1]);
      FUZZ_CHECK(!(before == 0xc2 && c >= 0x80 && c < 0xa0));
    }
  }
}

template <size_t kSize>
bool is_ended(const char (&text)[kSize]) {
  return memchr(text, 0, kSize) != nullptr;
}

void check_options() {
  FUZZ_CHECK(is_ended(options.dump_path) && options.dump_path[0] != 0);
  FUZZ_CHECK(is_ended(options.log_path) && is_ended(options.tags_path));
  FUZZ_CHECK(is_ended(options.report_path));
  FUZZ_CHECK(options.purge_ms <= 3600000 && options.record_ms <= 3600000);
  FUZZ_CHECK(options.dump_signal >= 0 && options.dump_signal <= 64);
  FUZZ_CHECK(options.guard <= 1000000 && options.sample <= uint64_t{1} << 40);
  FUZZ_CHECK(options.guard == 0 || options.sample != 0);
  FUZZ_CHECK(options.reserve <= size_t{1} << 30);
  FUZZ_CHECK(core::backend::find(options.backend) != nullptr);
}

// And the tags are as before.
void check_limits() {
  for (uint32_t id = 0; id < core::tag_limit(); ++id) {
    uint64_t soft, hard;
    if (tally_limit_get(id, &soft, &hard, nullptr) != 0) continue;
    FUZZ_CHECK(soft == TALLY_LIMIT_NONE || soft <= hard);
    for (uint64_t limit : {soft, hard}) {
      FUZZ_CHECK(limit == TALLY_LIMIT_NONE || limit <= uint64_t{64} << 40);
    }
    tally_limit_set(id, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
    tally_tag_retire(id);
  }
}

void read_environment(Input* input) {
  std::vector<std::string> variables;
  while (!input->is_empty()) {
    const std::string text = input->line('\n');
    variables.push_back("TALLY_" + text.substr(0, text.find('\0')));
  }
  // First what takes the place of the lists before, which Tally keeps where they stand.
  static char limit[] = "TALLY_LIMIT=64T", limits[] = "TALLY_LIMITS=", fault[] = "TALLY_FAULT=";
  std::vector<char*> pointers = {limit, limits, fault};
  for (std::string& variable : variables) pointers.push_back(variable.data());
  pointers.push_back(nullptr);
  options = core::Options();
  char** const own = environ;
  environ = pointers.data();
  core::read_options();
  environ = own;
  check_options();
  core::apply_limits();
  check_limits();
  options = core::Options();
}

void read_rules(Input* input) {
  std::string text = input->line(0);
  std::vector<char> file(text.begin(), text.end());  // its end is guarded
  file.push_back(0);
  core::read_tag_rules("the.file", file.data(), file.size() - 1);
  while (!input->is_empty()) {
    const std::string name = input->line(0).substr(0, 255);
    for (core::NameOf kind :
         {core::NameOf::kLibrary, core::NameOf::kProgram, core::NameOf::kThread}) {
      char path[256];
      core::put_tag_path(kind, name.c_str(), path);
      FUZZ_CHECK(core::check_tag_path(path) == 0);
    }
  }
  core::set_tag_rules(nullptr, 0);
}

}  // namespace
}  // namespace tally::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tally::fuzz::Input input(data, size);
  said.clear();
  input.byte() % 2 == 0 ? tally::fuzz::read_environment(&input) : tally::fuzz::read_rules(&input);
  tally::fuzz::check_said();
  return 0;
}
