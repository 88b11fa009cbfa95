#include "tag/rule.h"

#include <string.h>

#include "base/math.h"
#include "base/text.h"
#include "tally/tally.h"

namespace tally::core {
namespace {

constinit const TagRule* g_rules = nullptr;
constinit size_t g_rule_count = 0;

constexpr const char* kFolders[] = {"/lib/", "/exe/", "/thread/"};
constexpr size_t kNameMax = 200;  // so that a path is never too long

// One component of a path: without slashes, and without what a terminal would obey.
void put_component(TextWriter* out, const char* name) {
  size_t length = strlen(name);
  if (length > kNameMax) {
    length = kNameMax;
    // Not in the middle of a character.
    while (length != 0 && (static_cast<unsigned char>(name[length]) & 0xc0) == 0x80) --length;
  }
  for (size_t i = 0; i < length; ++i) {
    auto c = static_cast<unsigned char>(name[i]);
    auto before = static_cast<unsigned char>(i == 0 ? 0 : name[i - 1]);
    bool is_control = c < 0x20 || c == 0x7f || (before == 0xc2 && c >= 0x80 && c < 0xa0);
    out->put(is_control || c == '/' ? '_' : name[i]);
  }
  if (length == 0) out->put("unnamed");
}

const char* path_by_rule(NameOf kind, const char* name, const char* folded) {
  for (size_t i = 0; i < g_rule_count; ++i) {
    const TagRule& rule = g_rules[i];
    if ((rule.kinds >> static_cast<unsigned>(kind) & 1) == 0) continue;
    if (matches(rule.pattern, name) || matches(rule.pattern, folded)) return rule.path;
  }
  return nullptr;
}

}  // namespace

void set_tag_rules(const TagRule* rules, size_t count) {
  g_rules = rules;
  g_rule_count = count;
}

// Whatever follows the last star that was met is tried ever further on: no pattern takes more than
// its length times the name's.
bool matches(const char* pattern, const char* name) {
  const char* star = nullptr;
  const char* from = nullptr;
  while (*name != 0) {
    if (*pattern == '*') {
      star = pattern++;
      from = name;
    } else if (*pattern == '?' || *pattern == *name) {
      ++pattern;
      ++name;
    } else if (star != nullptr) {
      pattern = star + 1;
      name = ++from;
    } else {
      return false;
    }
  }
  while (*pattern == '*') ++pattern;
  return *pattern == 0;
}

void fold_number(char* name) {
  char* end = name + strlen(name);
  char* digits = end;
  while (digits != name && digits[-1] >= '0' && digits[-1] <= '9') --digits;
  if (digits == end) return;
  digits[0] = '#';
  digits[1] = 0;
}

void put_tag_path(NameOf kind, const char* name, char (&path)[256]) {
  char folded[256];
  TextWriter copy(folded, sizeof folded - 1);
  copy.put(name);
  folded[copy.used()] = 0;
  if (kind == NameOf::kThread) fold_number(folded);
  TextWriter out(path, sizeof path - 1);
  if (const char* by_rule = path_by_rule(kind, name, folded)) {
    out.put(by_rule);
  } else {
    put_component(&out.put(kFolders[static_cast<unsigned>(kind)]), folded);
  }
  path[out.used()] = 0;
}

Tag* tag_of_name(NameOf kind, const char* name) {
  char path[256];
  static_assert(sizeof path == TALLY_TAG_PATH_MAX + 1);
  put_tag_path(kind, name, path);
  return tag_at_or_above(path);
}

}  // namespace tally::core
