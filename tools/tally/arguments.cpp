#include "arguments.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

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

Arguments::Arguments(const char* help) : help_(help) {
  app_.set_help_flag();  // prints one of its own
  app_.add_flag("--help,-h", wants_help_);
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
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    fail(error.what());
  }
  return true;
}

void Arguments::fail(const std::string& message) const {
  throw Failure(kUsage, message + "; tally " + name_ + " --help shows how it is used");
}

}  // namespace tally::tool
