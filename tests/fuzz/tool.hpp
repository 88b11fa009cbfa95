// Runs commands of the program `tally` within this process, and reads what they write.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "commands.h"
#include "failure.h"
#include "input.hpp"
#include "output.hpp"

namespace tally::fuzz {

// A file in memory, which has a path.
class MemoryFile {
 public:
  MemoryFile() : file_(memfd_create("fuzz", MFD_CLOEXEC)) { FUZZ_CHECK(file_ >= 0); }
  ~MemoryFile() { close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }
  void write_at(uint64_t offset, const std::string& bytes) const {
    FUZZ_CHECK(pwrite(file_, bytes.data(), bytes.size(), off_t(offset)) == ssize_t(bytes.size()));
  }
  void resize(uint64_t bytes) const { FUZZ_CHECK(ftruncate(file_, off_t(bytes)) == 0); }

 private:
  int file_;
};

// stdout or stderr, for as long as it exists.
class Captured {
 public:
  explicit Captured(FILE** stream) : stream_(stream), own_(*stream) {
    *stream_ = open_memstream(&text_, &size_);
  }
  ~Captured() {
    if (*stream_ != own_) text();
    free(text_);
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  // Ends it.
  std::string text() {
    fclose(*stream_);
    *stream_ = own_;
    return {text_, size_};
  }

 private:
  FILE** stream_;
  FILE* own_;
  char* text_ = nullptr;
  size_t size_ = 0;
};

// A command with arguments, and what its output must be.
struct ToolCall {
  int (*command)(int argc, char** argv);
  std::vector<std::string> arguments;
  void (*check)(const std::string& output);
};

// It may refuse the file, by a message for people; what else it says must be as it should.
inline void run_tool(const ToolCall& call) {
  std::vector<std::string> words = {"fuzz"};
  words.insert(words.end(), call.arguments.begin(), call.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  Captured out(&stdout), err(&stderr);
  std::string refused, wrong;
  try {
    call.command(static_cast<int>(words.size()), argv.data());
  } catch (const tool::Failure& failure) {
    refused = failure.what() + std::string("\n");
  }
  const std::string said = err.text(), output = out.text();
  try {
    check_text(refused);
    check_text(said);
    if (refused.empty()) call.check(output);
  } catch (const std::runtime_error& error) {
    wrong = error.what();
  }
  if (wrong.empty()) return;
  for (const std::string& word : words) fprintf(stderr, "%s ", word.c_str());
  fprintf(stderr, "\n%s%s%s", refused.c_str(), said.c_str(), output.substr(0, 4000).c_str());
  fail("its output", 0, wrong.c_str());
}

// A file is shown in every way; which one, the byte says.
inline ToolCall shown(const std::string& path, unsigned way) {
  using namespace tool;
  const std::vector<ToolCall> calls = {
      {stat, {path}, check_text},
      {stat, {path, "--own", "--classes", "--rows", "5"}, check_text},
      {stat, {path, "--json"}, check_json},
      {stat, {path, "--openmetrics"}, check_open_metrics},
      {ledger, {path}, check_text},
      {ledger, {path, "--json"}, check_json},
      {frag, {path, "--all"}, check_text},
      {frag, {path, "--json"}, check_json},
      {diff, {path, path}, check_text},
      {diff, {path, path, "--json", "--all"}, check_json},
      {leaks, {path}, check_text},
      {profile, {path, "--format", "table", "--stale", "1s"}, check_text},
      {profile, {path, "--lifetimes"}, check_text},
      {profile, {path, "--format", "pprof"}, check_pprof},
      {profile, {path, "--format", "pprof", "--growth"}, check_pprof},
      {profile, {path, "--format", "folded", "--allocated"}, check_folded},
      {profile, {path, "--format", "json", "--peak"}, check_json},
      {report, {path, "--json", "-o", "-"}, check_json},
  };
  return calls[way % calls.size()];
}

}  // namespace tally::fuzz
