#include "top_screen.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "bars.h"
#include "failure.h"
#include "process.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

milliseconds until(steady_clock::time_point time) {
  const auto left = std::chrono::ceil<milliseconds>(time - steady_clock::now());
  return std::max(left, milliseconds(0));
}

void append(std::string* text, char32_t c) {
  if (c < 0x80) {
    *text += char(c);
  } else if (c < 0x800) {
    *text += {char(0xc0 | c >> 6), char(0x80 | (c & 0x3f))};
  } else if (c < 0x10000) {
    *text += {char(0xe0 | c >> 12), char(0x80 | (c >> 6 & 0x3f)), char(0x80 | (c & 0x3f))};
  } else {
    *text += {char(0xf0 | c >> 18), char(0x80 | (c >> 12 & 0x3f)), char(0x80 | (c >> 6 & 0x3f)),
              char(0x80 | (c & 0x3f))};
  }
}

void remove_last(std::string* text) {
  while (!text->empty() && (text->back() & 0xc0) == 0x80) text->pop_back();
  if (!text->empty()) text->pop_back();
}

// At most so wide, with "..." in front if something was cut off.
std::string end_of(const std::string& text, size_t width) {
  size_t from = 0;
  for (size_t left = width_of(text); left > width - 3 && width_of(text) > width; --left) {
    ++from;
    while (from < text.size() && (text[from] & 0xc0) == 0x80) ++from;
  }
  return from == 0 ? text : "..." + text.substr(from);
}

// A list of lines of which a part is on the screen.
class Scroll {
 public:
  size_t top() const { return top_; }
  void fit(size_t lines, size_t shown) {
    shown_ = std::max<size_t>(shown, 1);
    most_ = lines - std::min(lines, shown_);
    top_ = std::min(top_, most_);
  }
  void keep_in_sight(size_t line) {
    if (line < top_) top_ = line;
    if (line >= top_ + shown_) top_ = line - shown_ + 1;
  }
  // Whether the key was one of these.
  bool take(Key::Kind key) {
    if (key == Key::kUp) top_ -= std::min<size_t>(top_, 1);
    if (key == Key::kDown) ++top_;
    if (key == Key::kPageUp) top_ -= std::min(top_, shown_);
    if (key == Key::kPageDown) top_ += shown_;
    if (key == Key::kHome) top_ = 0;
    if (key == Key::kEnd) top_ = most_;
    top_ = std::min(top_, most_);
    return key >= Key::kUp && key <= Key::kEnd;
  }

 private:
  size_t top_ = 0, shown_ = 1, most_ = 0;
};

constexpr const char* kKeys[] = {
    "q        quit",
    "t        tree or flat: in a tree rates and history are with all below",
    "l f g a  sort by live bytes, footprint, growth, allocations",
    "n        sort by name",
    "s        sort by the next of these",
    "/        filter: a part of the tag; Enter keeps it, Escape ends it",
    "p        pause, go on",
    "arrows, page up, page down, home, end   through the rows",
    "h ?      this",
    "",
    "LIVE FOOTPR.     bytes of blocks in use; what is taken for them; the tag's own",
    "LIVE+ FOOTPR.+   with all tags below",
    "LIMIT            the share of the tag's limit that is taken",
    "",
    "Any key goes back.",
};
constexpr char kHints[] = "q quit  t tree  l f g a n sort  / filter  p pause  h help";

class Top {
 public:
  Top(Screen& screen, Watch& watch, milliseconds interval, TopView view)
      : screen_(screen), watch_(watch), interval_(interval), view_(std::move(view)) {}

  void run() {
    auto next = steady_clock::now() + interval_;
    while (true) {
      draw();
      const Key key = screen_.wait(until(next));
      if (!take(key)) return;
      if (steady_clock::now() < next) continue;
      if (!is_paused_) watch_.refresh();
      next = steady_clock::now() + interval_;
    }
  }

 private:
  // False: quit.
  bool take(const Key& key) {
    if (key.kind == Key::kNone) return true;
    if (key.kind == Key::kHangUp) return false;
    if (key.kind == Key::kResize) {
      screen_.repaint();
    } else if (shows_help_) {
      shows_help_ = false;
    } else if (edits_filter_) {
      edit(key);
    } else if (key.kind == Key::kEscape) {
      view_.filter.clear();
    } else if (key.kind == Key::kCharacter) {
      return take_command(key.character);
    } else {
      scroll_.take(key.kind);
    }
    return true;
  }

  void edit(const Key& key) {
    if (key.kind == Key::kCharacter && key.character >= U' ') append(&view_.filter, key.character);
    if (key.kind == Key::kBackspace) remove_last(&view_.filter);
    if (key.kind == Key::kEscape) view_.filter.clear();
    edits_filter_ = key.kind != Key::kEnter && key.kind != Key::kEscape;
  }

  bool take_command(char32_t character) {
    constexpr std::u32string_view kSortKeys = U"lfgan";
    constexpr int kSorts = int(std::size(kTopSorts));
    const size_t sort = kSortKeys.find(character);
    if (sort != kSortKeys.npos) view_.sort = TopSort(sort);
    if (character == U's') view_.sort = TopSort((int(view_.sort) + 1) % kSorts);
    if (character == U't') view_.is_tree = !view_.is_tree;
    if (character == U'/') edits_filter_ = true;
    if (character == U'p' || character == U' ') is_paused_ = !is_paused_;
    if (character == U'h' || character == U'?') shows_help_ = true;
    return character != U'q' && character != U'Q';
  }

  void draw() {
    screen_.clear();
    if (shows_help_) {
      int y = 0;
      for (const char* line : kKeys) line_at(y++, line);
    } else {
      auto [first, second] = watch_.summary();
      line_at(0, first, Style::kBold);
      line_at(1, second);
      draw_status();
      draw_rows();
      line_at(screen_.height() - 1, kHints, Style::kDim);
    }
    screen_.show();
  }

  void line_at(int y, const std::string& text, Style style = Style::kNone) {
    screen_.put(y, 0, text, screen_.width(), style);
  }

  void draw_status() {
    std::string text = std::string("by ") + kTopSorts[int(view_.sort)];
    text += view_.is_tree ? ", tree" : ", flat";
    text += ", every " + format_duration(uint64_t(interval_.count()) * 1'000'000);
    if (is_paused_) text = "PAUSED, " + text;
    if (!watch_.now().is_live) text = "THE PROCESS HAS ENDED: these are its last figures; q quits";
    const bool has_news = is_paused_ || !watch_.now().is_live;
    if (edits_filter_ || !view_.filter.empty()) {
      text = "filter: " + printable(view_.filter) + (edits_filter_ ? "_" : "") + "  " + text;
    }
    line_at(2, text, has_news ? Style::kYellow : Style::kNone);
  }

  void draw_rows() {
    constexpr int kHeads = 3;
    const std::vector<TopRow> rows = top_rows(watch_.now(), watch_.before(), view_);
    const auto places = top_columns(rows, view_.is_tree, size_t(screen_.width()));
    const bool has_history = !places.empty() && places.back().column == TopColumn::kHistory;
    const History history(watch_.points(), has_history ? places.back().width : 0);
    draw_heads(kHeads, places, history);
    const size_t shown = size_t(std::max(screen_.height() - kHeads - 2, 0));
    scroll_.fit(rows.size(), shown);
    for (size_t i = 0; i < std::min(shown, rows.size() - scroll_.top()); ++i) {
      draw_row(kHeads + 1 + int(i), rows[scroll_.top() + i], places, history);
    }
    if (rows.empty()) line_at(kHeads + 1, view_.filter.empty() ? "no tag holds anything" : "none");
  }

  void draw_heads(int y, const std::vector<TopPlace>& places, const History& history) {
    screen_.put(y, 0, "", screen_.width(), Style::kNone, Screen::Look::kReverse);
    size_t x = 0;
    for (const TopPlace& place : places) {
      std::string head = head_of(place.column);
      if (place.column == TopColumn::kHistory && history.span_ns() != 0) {
        const std::string span = format_duration(history.span_ns());
        head = "LAST " + span;
        if (head.size() > place.width) head = span;
      }
      put_cell(y, x, head, place, Style::kNone, Screen::Look::kReverse);
      x += place.width + 1;
    }
  }

  void draw_row(int y, const TopRow& row, const std::vector<TopPlace>& places,
                const History& history) {
    size_t x = 0;
    for (const TopPlace& place : places) {
      const std::string text = top_cell(row, place.column, history, bars_of_stdout());
      Style style = Style::kNone;
      if (place.column == TopColumn::kHistory) style = Style::kGreen;
      if (place.column == TopColumn::kLimit) {
        const std::optional<Limit> limit = limit_of(*row.tag);
        if (limit) style = limit->style;
      }
      put_cell(y, x, text, place, style, Screen::Look::kPlain);
      x += place.width + 1;
    }
  }

  // Names to the left, figures to the right; history so that now is at the right. Of a path the end
  // tells most.
  void put_cell(int y, size_t x, const std::string& text, const TopPlace& place, Style style,
                Screen::Look look) {
    const bool is_left = place.column == TopColumn::kTag;
    const size_t wide = std::min(width_of(text), place.width);
    const size_t blanks = is_left ? 0 : place.width - wide;
    const bool is_path = is_left && !view_.is_tree;
    const std::string shown = is_path ? end_of(text, place.width) : shortened(text, place.width);
    screen_.put(y, int(x + blanks), shown, int(wide), style, look);
  }

  Screen& screen_;
  Watch& watch_;
  milliseconds interval_;
  TopView view_;
  Scroll scroll_;
  bool is_paused_ = false, shows_help_ = false, edits_filter_ = false;
};

struct Choice {
  std::string path, line;
};

std::vector<Choice> running() {
  std::vector<Choice> choices;
  for (const RecordFile& file : list_records()) {
    try {
      const Record record = Reader(file.path).read();
      if (!record.is_live) continue;
      char line[96];
      snprintf(line, sizeof line, "%8ld  %10s  %10s  ", file.pid,
               format_bytes(record.ledger().rss).c_str(),
               format_bytes(record.ledger().live).c_str());
      choices.push_back({file.path, line + command_of(record.head)});
    } catch (const Failure&) {
      continue;  // it has just ended, or has only just started
    }
  }
  return choices;
}

}  // namespace

void show_top(Screen& screen, Watch& watch, milliseconds interval, TopView view) {
  Top(screen, watch, interval, std::move(view)).run();
}

std::optional<std::string> choose_record(Screen& screen) {
  constexpr milliseconds kInterval(1000);
  size_t chosen = 0;
  Scroll scroll;
  while (true) {
    const std::vector<Choice> choices = running();
    chosen = std::min(chosen, choices.empty() ? 0 : choices.size() - 1);
    const int height = screen.height(), width = screen.width();
    screen.clear();
    screen.put(0, 0, "Processes that have a record: arrows and Enter choose one, q quits", width,
               Style::kBold);
    screen.put(1, 0, "     PID         RSS        LIVE  COMMAND", width, Style::kNone,
               Screen::Look::kReverse);
    const size_t shown = size_t(std::max(height - 2, 1));
    scroll.fit(choices.size(), shown);
    scroll.keep_in_sight(chosen);
    for (size_t i = scroll.top(); i < std::min(choices.size(), scroll.top() + shown); ++i) {
      screen.put(2 + int(i - scroll.top()), 0, choices[i].line, width,
                 i == chosen ? Style::kBold : Style::kNone,
                 i == chosen ? Screen::Look::kReverse : Screen::Look::kPlain);
    }
    screen.show();
    const Key key = screen.wait(kInterval);
    if (key.kind == Key::kUp) chosen -= std::min<size_t>(chosen, 1);
    if (key.kind == Key::kDown) ++chosen;
    if (key.kind == Key::kEnter && !choices.empty()) return choices[chosen].path;
    if (key.kind == Key::kResize) screen.repaint();
    if (key.kind == Key::kHangUp || key.kind == Key::kEscape || key.character == U'q') {
      return std::nullopt;
    }
  }
}

}  // namespace tally::tool
