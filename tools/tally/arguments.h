// The command line of a command that takes options anywhere, and its help. CLI11 reads it, behind
// this: to compile and to check it takes longer than the rest of a command.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tally::tool {

// Nanoseconds of "90s", "10m", "2h", "1d" or "500ms"; none of anything else.
std::optional<uint64_t> read_duration(const std::string& text);

// An option that was added, as CLI11 has it.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option& type_name(const char* name);  // of its value, in messages
  Option& take_last();                  // given again, it is the last that holds
  Option& take_one();                   // what follows its value is none of its own
  // Of a value: what is wrong with it; "" if nothing is.
  Option& check(std::function<std::string(const std::string&)> complaint);
  Option& needs(const Option& other);
  bool is_given() const;

 private:
  CLI::Option* option_;
};

// Options and positionals are added; read() fills their variables.
class Arguments {
 public:
  explicit Arguments(const char* help);
  ~Arguments();

  Option add_option(const char* names, std::string& value);
  Option add_option(const char* names, std::vector<std::string>& values);
  Option add_option(const char* names, double& value);
  Option add_option(const char* names, size_t& value);
  Option add_flag(const char* names, bool& is_set);
  // "--one{a},--other{b}": the texts of all that are given.
  Option add_flag(const char* names, std::vector<std::string>& texts);
  // Of which one may be given, or none.
  struct Flag {
    const char* names;
    bool& is_set;
  };
  void add_alternatives(const char* what, std::initializer_list<Flag> flags);

  // False: --help was asked for and printed. Throws Failure (kUsage).
  bool read(int argc, char** argv);

  // Throws Failure (kUsage) with the message and where to read on.
  [[noreturn]] void fail(const std::string& message) const;

 private:
  const char* help_;
  std::string name_;
  bool wants_help_ = false;
  std::unique_ptr<CLI::App> app_;
};

}  // namespace tally::tool
