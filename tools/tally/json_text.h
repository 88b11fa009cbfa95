// JSON as text. Names may hold any bytes: what is no UTF-8 becomes U+FFFD, as the library does it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tally::tool {

inline std::string json_text(const nlohmann::ordered_json& value) {
  return value.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace tally::tool
