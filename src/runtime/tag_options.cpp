#include "runtime/tag_options.h"

#include <string.h>

#include "base/config.h"
#include "base/options.h"
#include "base/text.h"
#include "heap/callers.h"
#include "os/libc.h"
#include "os/os.h"
#include "runtime/limit_options.h"
#include "tag/rule.h"

namespace tally::core {
namespace {

constexpr char kFileIs[] = "TALLY_TAGS=";
constexpr char kLineAccepts[] =
    "PATTERN, PATTERN... -> TAG, such as libssl*, libcrypto* -> net/tls";
constexpr size_t kMostRules = 1024;
constexpr unsigned kMostComplaints = 10;

// What the program never uses is never in memory.
constinit char g_text[64 * KiB + 1] = {};
constinit TagRule g_rules[kMostRules] = {};
constinit size_t g_count = 0;

Text without_blanks(Text text) {
  auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  for (; text.length != 0 && is_blank(text.start[0]); --text.length) ++text.start;
  while (text.length != 0 && is_blank(text.start[text.length - 1])) --text.length;
  return text;
}

// A # within a word is none: folded names have it.
Text without_comment(Text line) {
  for (size_t i = 0; i < line.length; ++i) {
    bool is_first = i == 0 || line.start[i - 1] == ' ' || line.start[i - 1] == '\t';
    if (line.start[i] == '#' && is_first) return {line.start, i};
  }
  return line;
}

bool has_control(Text line) {
  for (size_t i = 0; i < line.length; ++i) {
    auto c = static_cast<unsigned char>(line.start[i]);
    if ((c < 0x20 && c != '\t') || c == 0x7f) return true;
  }
  return false;
}

// Splits the line at its first arrow; false: it has none.
bool split(Text line, Text* left, Text* right) {
  static constexpr const char* kArrows[] = {"->", "=", "\u2192"};
  for (size_t i = 0; i < line.length; ++i) {
    for (const char* arrow : kArrows) {
      size_t length = strlen(arrow);
      if (line.length - i < length || memcmp(line.start + i, arrow, length) != 0) continue;
      *left = without_blanks({line.start, i});
      *right = without_blanks({line.start + i + length, line.length - i - length});
      return true;
    }
  }
  return false;
}

// Ends the text where it is: what follows it was looked at before.
const char* end_here(Text text) {
  const_cast<char*>(text.start)[text.length] = 0;
  return text.start;
}

// "lib:", "exe:" or "thread:" before a pattern is taken off.
uint8_t take_kinds(Text* pattern) {
  static constexpr struct {
    const char* prefix;
    NameOf kind;
  } kPrefixes[] = {
      {"lib:", NameOf::kLibrary}, {"exe:", NameOf::kProgram}, {"thread:", NameOf::kThread}};
  for (const auto& each : kPrefixes) {
    size_t length = strlen(each.prefix);
    if (pattern->length < length || memcmp(pattern->start, each.prefix, length) != 0) continue;
    *pattern = without_blanks({pattern->start + length, pattern->length - length});
    return static_cast<uint8_t>(1U << static_cast<unsigned>(each.kind));
  }
  return kAllKinds;
}

// What was expected instead of the line; nullptr: its rules were added.
const char* read_line(Text line) {
  Text patterns, tag;
  if (has_control(line)) return "text without control characters";
  if (!split(line, &patterns, &tag) || tag.length == 0) return kLineAccepts;
  const char* path = end_here(tag);
  if (int error = check_tag_path(path)) return expected_path(error);
  size_t count = g_count;
  do {
    Text pattern = without_blanks(next_part(&patterns, ','));
    uint8_t kinds = take_kinds(&pattern);
    if (pattern.length == 0) return kLineAccepts;
    if (count == kMostRules) return "at most 1024 patterns in all";
    g_rules[count++] = {end_here(pattern), path, kinds};
  } while (patterns.length != 0);
  g_count = count;
  return nullptr;
}

void read_file() {
  Text path = {options.tags_path, strlen(options.tags_path)};
  if (options.tag_by == TagBy::kNone) {
    return complain_expected(kFileIs, path, "TALLY_TAG_BY=module or thread beside it");
  }
  long length = os::read_file(options.tags_path, g_text, sizeof g_text);
  if (length < 0) {
    char reason[160];
    TextWriter out(reason, sizeof reason - 1);
    out.put("cannot be read, and no rule of it holds: ")
        .put(os::error_text(static_cast<int>(-length)));
    reason[out.used()] = 0;
    return complain(kFileIs, path, reason);
  }
  read_tag_rules(options.tags_path, g_text, static_cast<size_t>(length));
}

}  // namespace

void read_tag_rules(const char* path, char* text, size_t length) {
  Text rest = {text, length};
  unsigned complaints = 0;
  g_count = 0;
  for (uint64_t number = 1; rest.length != 0; ++number) {
    Text line = without_blanks(without_comment(next_part(&rest, '\n')));
    const char* accepts = line.length == 0 ? nullptr : read_line(line);
    if (accepts == nullptr) continue;
    if (++complaints > kMostComplaints) {
      if (complaints == kMostComplaints + 1) {
        remark(kFileIs, {path, strlen(path)}, "more lines are no rules");
      }
      continue;
    }
    char where[64];
    TextWriter out(where, sizeof where - 1);
    out.put("TALLY_TAGS line ").number(number).put(" of ");
    where[out.used()] = 0;
    complain_expected(where, {path, strlen(path)}, accepts);
  }
  set_tag_rules(g_rules, g_count);
}

void start_tag_rule() {
  if (options.tags_path[0] != 0) read_file();
  if (is_by_module()) start_by_module();
}

}  // namespace tally::core
