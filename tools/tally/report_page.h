// The page that shows a report: one HTML file that needs nothing else, made at build time from
// tools/tally/page. Without npm at build time there is none.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tally::tool {

bool has_report_page();
// Why not, and what to do, in a sentence; "" if there is one.
std::string why_no_report_page();

// The page with this data inside: report_data(), or {"live": true}. With that the page asks the
// server that it came from, relative to its own address: `api/v1/processes`, which answers
// [{pid, command, live, rss, ...}, ...], and `api/v1/processes/PID/report`, which answers
// report_data(), 404 when the process has no record any more. Only if has_report_page().
std::string report_page(const nlohmann::ordered_json& data);

}  // namespace tally::tool
