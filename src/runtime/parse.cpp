#include "runtime/parse.h"

#include <string.h>

#include "base/gauge.h"
#include "base/math.h"
#include "base/options.h"
#include "base/text.h"
#include "os/os.h"

namespace tally::core {
namespace {

constinit bool g_has_complained = false;

// The terminal is not ours to control: without ASCII's control characters, and Latin-1's in UTF-8.
void put_harmless(TextWriter& out, Text what) {
  size_t length = min_of(what.length, 200);
  auto byte = [what](size_t i) { return static_cast<unsigned char>(what.start[i]); };
  // Not cut within a character.
  while (length < what.length && length != 0 && (byte(length) & 0xc0) == 0x80) --length;
  for (size_t i = 0; i < length; ++i) {
    bool is_latin = byte(i) == 0xc2 && i + 1 < length && byte(i + 1) >= 0x80 && byte(i + 1) < 0xa0;
    bool is_control = is_latin || byte(i) < 0x20 || byte(i) == 0x7f;
    out.put(is_control ? '?' : what.start[i]);
    if (is_latin) ++i;
  }
}

void write_line(const char* prefix, Text what, const char* before, const char* reason) {
  char buffer[768];
  TextWriter out(buffer, sizeof buffer - 1);
  out.put("tally: ").put(prefix);
  put_harmless(out, what);
  out.put(": ").put(before).put(reason);
  size_t length = out.used();
  buffer[length++] = '\n';
  os::write_all(2, buffer, length);
}

// What a size may end with, as a number of bits; false: something else.
bool read_unit(Text unit, unsigned* shift) {
  static constexpr char kUnits[] = "KkMmGgTt";
  *shift = 0;
  if (unit.length == 0 || same_letters(unit, "b")) return true;
  const char* at = strchr(kUnits, unit.start[0]);
  if (at == nullptr) return false;
  *shift = 10 * (static_cast<unsigned>(at - kUnits) / 2 + 1);
  Text rest = {unit.start + 1, unit.length - 1};
  return rest.length == 0 || same_letters(rest, "b") || same_letters(rest, "ib");
}

}  // namespace

bool Text::is(const char* other) const {
  return strlen(other) == length && memcmp(start, other, length) == 0;
}

size_t find(Text text, char c) {
  const void* at = memchr(text.start, c, text.length);
  return at == nullptr ? text.length
                       : static_cast<size_t>(static_cast<const char*>(at) - text.start);
}

Text next_part(Text* rest, char c) {
  Text part = {rest->start, find(*rest, c)};
  size_t taken = min_of(part.length + 1, rest->length);
  *rest = {rest->start + taken, rest->length - taken};
  return part;
}

Text without_spaces(Text text) {
  for (; text.length != 0 && text.start[0] == ' '; --text.length) ++text.start;
  while (text.length != 0 && text.start[text.length - 1] == ' ') --text.length;
  return text;
}

bool same_letters(Text name, const char* key) {
  if (strlen(key) != name.length) return false;
  for (size_t i = 0; i < name.length; ++i) {
    char c = name.start[i];
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c != key[i]) return false;
  }
  return true;
}

bool has_only_digits(Text value) {
  for (size_t i = 0; i < value.length; ++i) {
    if (value.start[i] < '0' || value.start[i] > '9') return false;
  }
  return value.length != 0;
}

bool read_number(Text value, uint64_t most, uint64_t* number) {
  if (!has_only_digits(value)) return false;
  *number = 0;
  for (size_t i = 0; i < value.length; ++i) {
    *number = *number * 10 + static_cast<uint64_t>(value.start[i] - '0');
    if (*number > most) return false;
  }
  return true;
}

bool read_size(Text value, uint64_t* bytes) {
  size_t digits = 0, fraction_digits = 0;
  uint64_t whole = 0, fraction = 0, scale = 1;
  for (; digits < value.length && value.start[digits] >= '0' && value.start[digits] <= '9';
       ++digits) {
    whole = whole * 10 + static_cast<uint64_t>(value.start[digits] - '0');
    if (whole > Account::kNoLimit) return false;
  }
  if (digits == 0) return false;
  Text rest = {value.start + digits, value.length - digits};
  if (rest.length != 0 && rest.start[0] == '.') {
    ++rest.start, --rest.length;
    for (; rest.length != 0 && rest.start[0] >= '0' && rest.start[0] <= '9';
         ++rest.start, --rest.length) {
      if (++fraction_digits > 6) return false;
      fraction = fraction * 10 + static_cast<uint64_t>(rest.start[0] - '0');
      scale *= 10;
    }
    if (fraction_digits == 0 || rest.length == 0) return false;
  }
  unsigned shift;
  if (!read_unit(rest, &shift) || whole > Account::kNoLimit >> shift) return false;
  *bytes = (whole << shift) + (fraction << shift) / scale;
  return *bytes <= Account::kNoLimit;
}

void remark(const char* prefix, Text what, const char* text) {
  // What is no mistake need not be told by all that the program starts.
  if (options.report_pid != 0 && options.report_pid != os::process_id()) return;
  write_line(prefix, what, "", text);
}

void complain(const char* prefix, Text what, const char* reason) {
  g_has_complained = true;
  write_line(prefix, what, "", reason);
}

void complain_expected(const char* prefix, Text what, const char* accepts) {
  g_has_complained = true;
  write_line(prefix, what, "expected ", accepts);
}

bool has_complained() { return g_has_complained; }

}  // namespace tally::core
