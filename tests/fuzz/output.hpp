// What the program `tally` writes, read back: text that leaves a terminal as it is, JSON,
// OpenMetrics, folded stacks, pprof.
#pragma once

#include <string>

namespace tally::fuzz {

// Each throws std::runtime_error with what is wrong.
void check_text(const std::string& text);
void check_json(const std::string& text);
void check_open_metrics(const std::string& text);
void check_folded(const std::string& text);
void check_pprof(const std::string& gzipped);

}  // namespace tally::fuzz
