// The command line of a command that takes options anywhere, and its help.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

namespace tally::tool {

// Nanoseconds of "90s", "10m", "2h", "1d" or "500ms"; none of anything else.
std::optional<uint64_t> read_duration(const std::string& text);

// Options and positionals are added to app(); read() fills their variables.
class Arguments {
 public:
  explicit Arguments(const char* help);
  CLI::App& app() { return app_; }

  // False: --help was asked for and printed. Throws Failure (kUsage).
  bool read(int argc, char** argv);

  // Throws Failure (kUsage) with the message and where to read on.
  [[noreturn]] void fail(const std::string& message) const;

 private:
  const char* help_;
  std::string name_;
  bool wants_help_ = false;
  CLI::App app_;
};

}  // namespace tally::tool
