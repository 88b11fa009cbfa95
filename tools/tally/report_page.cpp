#include "report_page.h"

#include <string_view>

// What tools/tally/page/CMakeLists.txt made of the page, and in `why` what went wrong if it made
// none: the page is empty then.
asm(".pushsection .rodata\n"
    "tally_report_page: .incbin \"" TALLY_REPORT_PAGE
    "\"\n"
    "tally_report_page_end: .byte 0\n"
    "tally_report_page_why: .incbin \"" TALLY_REPORT_PAGE
    ".why\"\n"
    "tally_report_page_why_end: .byte 0\n"
    ".popsection\n");
extern "C" {
extern const char tally_report_page[], tally_report_page_end[];
extern const char tally_report_page_why[], tally_report_page_why_end[];
}

namespace tally::tool {
namespace {

std::string_view page() { return {tally_report_page, tally_report_page_end}; }

// JSON within a script element: nothing in it may end that, or begin a comment.
std::string safe(const nlohmann::ordered_json& data) {
  const std::string text =
      data.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::string out;
  out.reserve(text.size() + text.size() / 64);
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = std::string_view(text).substr(i);
    if (text[i] == '<') {
      out += "\\u003c";
    } else if (rest.starts_with("\u2028") || rest.starts_with("\u2029")) {
      out += rest.starts_with("\u2028") ? "\\u2028" : "\\u2029";
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string_view before(std::string_view* text, std::string_view mark) {
  const size_t at = text->find(mark);
  const std::string_view part = text->substr(0, at);
  *text = at == text->npos ? std::string_view() : text->substr(at + mark.size());
  return part;
}

}  // namespace

bool has_report_page() { return !page().empty(); }

std::string why_no_report_page() { return {tally_report_page_why, tally_report_page_why_end}; }

std::string report_page(const nlohmann::ordered_json& data) {
  std::string_view rest = page();
  std::string out(before(&rest, "TALLY_CONNECT"));
  out += data.contains("live") ? "'self'" : "'none'";
  out += before(&rest, "TALLY_DATA");
  out += safe(data);
  out += rest;
  return out;
}

}  // namespace tally::tool
