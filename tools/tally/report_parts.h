// What report_data() is put together from.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "profile.h"
#include "record.h"
#include "symbols.h"

namespace tally::tool {

// Strings, each once, by its index.
class StringTable {
 public:
  uint32_t index_of(std::string_view text) {
    auto at = index_.find(text);
    if (at != index_.end()) return at->second;
    strings_.emplace_back(text);
    return index_.emplace(text, static_cast<uint32_t>(strings_.size() - 1)).first->second;
  }
  const std::vector<std::string>& strings() const { return strings_; }

 private:
  std::vector<std::string> strings_;
  std::map<std::string, uint32_t, std::less<>> index_;
};

inline int64_t as_ms(int64_t ns) { return ns / 1'000'000; }

// `profile` of the report; `paths` gets the tags of its sites.
nlohmann::ordered_json report_profile(const Profile& profile, Symbols& symbols, StringTable& paths);

// What is most worth a look, in words.
struct Finding {
  enum class Level { kBad, kWarn, kNote, kGood } level;
  const char* section;  // of the page
  std::string text;
};

struct ReportSource {
  const Record& record;
  std::span<const record::Point> points;  // of the minutes, then the last ones; oldest first
  std::span<const record::Event> events;
  const Profile& profile;
  Symbols& symbols;
};

// The gravest first; at least one.
std::vector<Finding> findings_of(const ReportSource& source);

}  // namespace tally::tool
