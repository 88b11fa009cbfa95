#include "text.h"

#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tally::tool {
namespace {

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Bytes of the character that `text` begins with; 0 if it is none that a terminal would show.
size_t character_length(std::string_view text) {
  auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return first < 0x20 || first == 0x7f ? 0 : 1;
  size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (!is_continuation(text[i])) return 0;
  }
  // Overlong forms, surrogates, what lies above Unicode; and 0x80 to 0x9f, controls as well.
  auto second = static_cast<unsigned char>(text[1]);
  bool bad = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
             (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f) ||
             (first == 0xc2 && second < 0xa0);
  return bad ? 0 : length;
}

size_t room_of(const std::string& cell, const Table::Column& column) {
  return width_of(cell) + (column.is_bytes && cell.ends_with(" B") ? 2 : 0);
}

}  // namespace

std::string format_bytes(uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  unsigned unit = 1;
  while (unit < 6 && bytes >> (10 * (unit + 1)) != 0) ++unit;
  uint64_t scale = uint64_t{1} << (10 * unit);
  uint64_t whole = bytes / scale;
  uint64_t hundredths = bytes % scale / (scale / 128) * 100 / 128;
  char text[32];
  if (whole < 10) {
    snprintf(text, sizeof text, "%u.%02u ", unsigned(whole), unsigned(hundredths));
  } else if (whole < 100) {
    snprintf(text, sizeof text, "%u.%u ", unsigned(whole), unsigned(hundredths / 10));
  } else {
    snprintf(text, sizeof text, "%u ", unsigned(whole));
  }
  return std::string(text) + "KMGTPE"[unit - 1] + "iB";
}

std::string format_duration(uint64_t ns) {
  uint64_t ms = ns / 1'000'000;
  if (ms < 1000) return std::to_string(ms) + " ms";
  uint64_t seconds = ms / 1000;
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 120 * 60) return std::to_string(seconds / 60) + " min";
  if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86400) + " days";
}

std::string format_share(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  char text[32];
  snprintf(text, sizeof text, "%.1f %%", 100.0 * double(part) / double(whole));
  return text;
}

std::string printable(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    size_t length = character_length(text);
    if (length == 0) {
      shown += '?';
      text.remove_prefix(1);
    } else {
      shown += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return shown;
}

size_t width_of(std::string_view text) {
  return size_t(
      std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

std::string shortened(const std::string& text, size_t width) {
  if (width_of(text) <= width || width < 4) return text;
  size_t end = 0;
  for (size_t left = width - 3; left != 0; --left) {
    ++end;
    while (end < text.size() && is_continuation(text[end])) ++end;
  }
  return text.substr(0, end) + "...";
}

bool has_terminal() { return isatty(STDOUT_FILENO) == 1; }

bool has_colours() {
  static const bool has = [] {
    const char* no_colour = getenv("NO_COLOR");  // counts if it is not empty: no-color.org
    return has_terminal() && (no_colour == nullptr || *no_colour == 0);
  }();
  return has;
}

size_t terminal_width() {
  winsize size = {};
  if (!has_terminal() || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

bool is_utf8() { return strcmp(nl_langinfo(CODESET), "UTF-8") == 0; }

std::string styled(const std::string& text, Style style) {
  static constexpr const char* kCodes[] = {"", "1", "2", "31", "33", "32"};
  if (style == Style::kNone || !has_colours()) return text;
  return std::string("\x1b[") + kCodes[int(style)] + "m" + text + "\x1b[0m";
}

std::string Table::text() const {
  Row heads = {{}, Style::kBold};
  for (const Column& column : columns_) heads.cells.push_back(column.head);
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t widest = width_of(columns_[i].head);
    for (const Row& row : rows_) widest = std::max(widest, room_of(row.cells[i], columns_[i]));
    bool is_name = columns_[i].align == Align::kLeft;
    widths.push_back(is_name ? std::min(widest, kNameMost) : widest);
  }
  std::string all = line(heads, widths);
  for (const Row& row : rows_) all += line(row, widths);
  return all;
}

std::string Table::line(const Row& row, const std::vector<size_t>& widths) const {
  std::string text;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const std::string& cell = row.cells[i];
    size_t blanks = widths[i] - std::min(widths[i], room_of(cell, columns_[i]));
    size_t behind = room_of(cell, columns_[i]) - width_of(cell);
    bool is_left = columns_[i].align == Align::kLeft;
    text += i == 0 ? "" : "  ";
    text += is_left ? cell + std::string(blanks, ' ') : std::string(blanks, ' ') + cell;
    text += std::string(behind, ' ');
  }
  text.erase(text.find_last_not_of(' ') + 1);
  return styled(text, row.style) + "\n";
}

}  // namespace tally::tool
