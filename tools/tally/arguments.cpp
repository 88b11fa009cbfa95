#include "arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "failure.h"

namespace tally::tool {

std::optional<uint64_t> read_duration(const std::string& text) {
  constexpr struct {
    const char* name;
    double ns;
  } kUnits[] = {{"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9}};
  double count = 0;
  const char* end = text.data() + text.size();
  const auto [unit, error] = std::from_chars(text.data(), end, count, std::chars_format::fixed);
  constexpr double kMost = 1e18;
  for (const auto& [name, ns] : kUnits) {
    const bool is_it = error == std::errc() && std::string_view(unit) == name;
    if (is_it && count >= 0 && count * ns <= kMost) return static_cast<uint64_t>(count * ns);
  }
  return std::nullopt;
}

Option& Option::type_name(const char* name) {
  option_->type_name(name);
  return *this;
}

Option& Option::take_last() {
  option_->take_last();
  return *this;
}

Option& Option::take_one() {
  option_->allow_extra_args(false);
  return *this;
}

Option& Option::check(std::function<std::string(const std::string&)> complaint) {
  option_->check(std::move(complaint));
  return *this;
}

Option& Option::needs(const Option& other) {
  option_->needs(other.option_);
  return *this;
}

bool Option::is_given() const { return option_->count() != 0; }

Arguments::Arguments(const char* help) : help_(help), app_(std::make_unique<CLI::App>()) {
  app_->set_help_flag();  // prints one of its own
  app_->add_flag("--help,-h", wants_help_);
}

Arguments::~Arguments() = default;

Option Arguments::add_option(const char* names, std::string& value) {
  return Option(app_->add_option(names, value));
}

Option Arguments::add_option(const char* names, std::vector<std::string>& values) {
  return Option(app_->add_option(names, values));
}

Option Arguments::add_option(const char* names, double& value) {
  return Option(app_->add_option(names, value));
}

Option Arguments::add_option(const char* names, size_t& value) {
  return Option(app_->add_option(names, value));
}

Option Arguments::add_flag(const char* names, bool& is_set) {
  return Option(app_->add_flag(names, is_set));
}

Option Arguments::add_flag(const char* names, std::vector<std::string>& texts) {
  return Option(app_->add_flag(names, texts)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
}

void Arguments::add_alternatives(const char* what, std::initializer_list<Flag> flags) {
  CLI::Option_group* group = app_->add_option_group(what);
  for (const Flag& flag : flags) group->add_flag(flag.names, flag.is_set);
  group->require_option(0, 1);
}

bool Arguments::read(int argc, char** argv) {
  name_ = argv[0];
  // Asked for help, nobody wants to hear what else is missing.
  auto is_help = [](const char* text) {
    return strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0;
  };
  if (std::any_of(argv + 1, argv + argc, is_help)) {
    fputs(help_, stdout);
    return false;
  }
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ExtrasError& error) {
    // What stands behind an option that is not there is perhaps its value: TARGET is one too many
    // then.
    for (const std::string& extra : app_->remaining()) {
      if (extra.starts_with('-')) fail("The following argument was not expected: " + extra);
    }
    fail(error.what());
  } catch (const CLI::ParseError& error) {
    fail(error.what());
  }
  return true;
}

void Arguments::fail(const std::string& message) const {
  throw Failure(kUsage, message + "; tally " + name_ + " --help shows how it is used");
}

}  // namespace tally::tool
