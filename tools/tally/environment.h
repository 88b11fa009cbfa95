// The library's options, as its environment gives them: TALLY_<NAME>, in whatever case, else the
// key in TALLY_CONF.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tally::tool {

// The value that the library will read, if there is one. Of several the last holds.
std::optional<std::string> option(std::string_view name);

// Overrides whatever the environment says.
void set_option(std::string_view name, const std::string& value);

// Empty if there is none.
std::string variable(const char* name);

}  // namespace tally::tool
