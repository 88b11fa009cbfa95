#include "arguments.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "failure.h"

namespace tally::tool {

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
