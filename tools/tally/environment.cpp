#include "environment.h"

#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <vector>

namespace tally::tool {
namespace {

constexpr std::string_view kPrefix = "TALLY_";

bool same_letters(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// The variables that the library takes for this option: their names as they are spelled.
std::vector<std::string> spellings(std::string_view name) {
  std::vector<std::string> found;
  for (char** at = environ; *at != nullptr; ++at) {
    std::string_view spelled = *at;
    spelled = spelled.substr(0, spelled.find('='));
    if (!spelled.starts_with(kPrefix)) continue;
    if (same_letters(spelled.substr(kPrefix.size()), name)) found.emplace_back(spelled);
  }
  return found;
}

std::string_view without_spaces(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

std::optional<std::string> option_in_conf(std::string_view name) {
  const std::string conf = variable("TALLY_CONF");
  std::optional<std::string> found;
  for (std::string_view rest = conf; !rest.empty();) {
    size_t end = std::min(rest.find(','), rest.size());
    std::string_view pair = without_spaces(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    size_t colon = pair.find(':');
    if (colon == pair.npos || !same_letters(pair.substr(0, colon), name)) continue;
    found = pair.substr(colon + 1);
  }
  return found;
}

}  // namespace

std::string variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

std::optional<std::string> option(std::string_view name) {
  std::vector<std::string> names = spellings(name);
  return names.empty() ? option_in_conf(name) : variable(names.back().c_str());
}

void set_option(std::string_view name, const std::string& value) {
  for (const std::string& spelled : spellings(name)) unsetenv(spelled.c_str());
  std::string upper(kPrefix);
  for (char c : name) upper += static_cast<char>(toupper(static_cast<unsigned char>(c)));
  setenv(upper.c_str(), value.c_str(), 1);
}

}  // namespace tally::tool
