// Text for people: sizes, times, names that cannot drive the terminal, tables, colours.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tally::tool {

// Three digits, cut off, as the library prints them: "1.50 MiB", "512 B".
std::string format_bytes(uint64_t bytes);
// "40 ms", "3 s", "5 min", "2 h", "6 days".
std::string format_duration(uint64_t ns);
// "12.3 %"; "-" of nothing.
std::string format_share(uint64_t part, uint64_t whole);

// Without what would move a terminal's cursor or is no UTF-8: '?' instead.
std::string printable(std::string_view text);
// What a printable text takes on the screen, as far as a count of characters tells.
size_t width_of(std::string_view text);
// At most so wide, with "..." at the end if something was cut off.
std::string shortened(const std::string& text, size_t width);

bool has_terminal();  // stdout is one
// It is, and NO_COLOR is not set.
bool has_colours();
// Columns of the terminal; 0 if stdout is none.
size_t terminal_width();
// The characters of this locale, as main() set it, are UTF-8.
bool is_utf8();

enum class Style { kNone, kBold, kDim, kRed, kYellow, kGreen };
// As it stands where there are no colours.
std::string styled(const std::string& text, Style style);

// Rows below heads. Columns are as wide as need be; a name that is wider than kNameMost moves its
// own row only.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string head;
    Align align = Align::kRight;
    bool is_bytes = false;  // "B" takes the room of "KiB", so that figures stand below each other
  };
  static constexpr size_t kNameMost = 48;

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells, Style style = Style::kNone) {
    rows_.push_back({std::move(cells), style});
  }
  std::string text() const;

 private:
  struct Row {
    std::vector<std::string> cells;
    Style style;
  };
  std::string line(const Row& row, const std::vector<size_t>& widths) const;

  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

}  // namespace tally::tool
