// RSS as the sum that it is (record::Ledger), in the parts that are shown.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "record.h"

namespace tally::tool {

struct LedgerPart {
  const char* key;    // in JSON and OpenMetrics
  const char* label;  // for people
  int64_t bytes;      // below 0: what another part has too much
  const char* help;
};

// They add up to rss; the last is what is left, "other".
std::vector<LedgerPart> ledger_parts(const record::Ledger& ledger);

// "RSS 252 MiB = live 227 MiB + free in slabs 6.10 MiB + ...", without what is nothing.
std::string ledger_line(const Record& record);

// A line of what to look for, where most of rss is neither the heap's nor files'; else nothing.
std::string hint_at_others(const std::vector<LedgerPart>& parts, uint64_t rss);

// As format_bytes, with a sign.
std::string format_signed(int64_t bytes);

}  // namespace tally::tool
