#include "screen.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <cwchar>

#define NCURSES_NOMACROS  // NOLINT(readability-identifier-naming): its name
#include <curses.h>
#include <term.h>

#include "failure.h"

namespace tally::tool {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
volatile sig_atomic_t g_signal = 0;
// What waits for a key lets them in, so that none is missed in between.
sigset_t g_open_mask;
struct sigaction g_before[std::size(kSignals)];

void note(int signal) { g_signal = signal; }

void catch_signals() {
  sigset_t caught;
  sigemptyset(&caught);
  sigaddset(&caught, SIGWINCH);
  struct sigaction action = {};
  action.sa_handler = note;
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    sigaddset(&caught, kSignals[i]);
    sigaction(kSignals[i], nullptr, &g_before[i]);
    // Who starts it in the background, or by nohup, ignores some.
    if (g_before[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
  sigprocmask(SIG_BLOCK, &caught, &g_open_mask);
  for (int signal : kSignals) sigdelset(&g_open_mask, signal);
  sigdelset(&g_open_mask, SIGWINCH);
}

void release_signals() {
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &g_before[i], nullptr);
  sigprocmask(SIG_SETMASK, &g_open_mask, nullptr);
}

attr_t attributes_of(Style style) {
  if (style == Style::kBold) return A_BOLD;
  if (style == Style::kDim) return A_DIM;
  if (style == Style::kNone) return A_NORMAL;
  if (::has_colors()) return static_cast<attr_t>(COLOR_PAIR(int(style)));
  return style == Style::kRed ? A_REVERSE | A_BOLD : style == Style::kYellow ? A_BOLD : A_NORMAL;
}

void set_colours() {
  if (!has_colours() || start_color() == ERR) return;
  use_default_colors();
  init_pair(int(Style::kRed), COLOR_RED, -1);
  init_pair(int(Style::kYellow), COLOR_YELLOW, -1);
  init_pair(int(Style::kGreen), COLOR_GREEN, -1);
}

Key key_of(int result, wint_t code) {
  if (result == KEY_CODE_YES) {
    switch (code) {
      case KEY_UP:
        return {Key::kUp};
      case KEY_DOWN:
        return {Key::kDown};
      case KEY_PPAGE:
        return {Key::kPageUp};
      case KEY_NPAGE:
        return {Key::kPageDown};
      case KEY_HOME:
        return {Key::kHome};
      case KEY_END:
        return {Key::kEnd};
      case KEY_ENTER:
        return {Key::kEnter};
      case KEY_BACKSPACE:
        return {Key::kBackspace};
      case KEY_RESIZE:
        return {Key::kResize};
      default:
        return {Key::kOther};
    }
  }
  constexpr wint_t kEscapeCode = 27, kDelete = 127;
  if (code == L'\n' || code == L'\r') return {Key::kEnter};
  if (code == kEscapeCode) return {Key::kEscape};
  if (code == kDelete || code == L'\b') return {Key::kBackspace};
  return {Key::kCharacter, char32_t(code)};
}

}  // namespace

std::string why_no_screen() {
  if (isatty(STDIN_FILENO) != 1) return "stdin is no terminal";
  if (isatty(STDOUT_FILENO) != 1) return "stdout is no terminal";
  const char* name = getenv("TERM");
  if (name == nullptr || *name == 0) return "TERM is not set";
  const std::string term = "TERM is " + printable(name);
  int error = 0;
  if (setupterm(nullptr, STDOUT_FILENO, &error) != OK) return term + ", which is not known here";
  const bool can_move = cursor_address != nullptr && clear_screen != nullptr;
  return can_move ? "" : term + ", a terminal that cannot move its cursor";
}

Screen::Screen() {
  catch_signals();  // before curses, which then leaves them alone
  if (newterm(nullptr, stdout, stdin) == nullptr) {
    release_signals();
    throw Failure(kFailed, "the terminal cannot be used");
  }
  cbreak();
  noecho();
  nonl();
  curs_set(0);
  keypad(stdscr, TRUE);
  nodelay(stdscr, TRUE);
  set_escdelay(100);  // between the bytes of a key, as they come over a network
  set_colours();
}

Screen::~Screen() {
  endwin();
  release_signals();
}

int Screen::height() const { return getmaxy(stdscr); }
int Screen::width() const { return getmaxx(stdscr); }

void Screen::clear() { werase(stdscr); }

// Character by character, for what takes two columns, or none, is known here alone.
void Screen::put(int y, int x, const std::string& text, int most, Style style, Look look) {
  const int end = std::min(x + most, width());
  if (y < 0 || y >= height() || x >= end) return;
  wattrset(stdscr, int(attributes_of(style) | (look == Look::kReverse ? A_REVERSE : 0)));
  wmove(stdscr, y, x);
  std::mbstate_t state = {};
  const char* at = text.data();
  const char* stop = at + text.size();
  const bool has_utf8 = is_utf8();
  while (at < stop) {
    wchar_t character = L'?';
    size_t length = has_utf8 ? std::mbrtowc(&character, at, size_t(stop - at), &state) : 1;
    if (!has_utf8 && (*at & 0x80) == 0) character = wchar_t(*at);
    if (length == 0 || length > size_t(stop - at)) {
      length = 1;
      state = {};
    }
    at += length;
    while (!has_utf8 && at < stop && (*at & 0xc0) == 0x80) ++at;  // of the same character
    const int wide = wcwidth(character);
    if (wide < 0) continue;
    if (x + wide > end) break;
    x += wide;
    waddnwstr(stdscr, &character, 1);
  }
  // The rest of the place, as a row in reverse goes to its end.
  for (; look == Look::kReverse && x < end; ++x) waddnstr(stdscr, " ", 1);
  wattrset(stdscr, A_NORMAL);
}

void Screen::show() { wrefresh(stdscr); }
void Screen::repaint() { redrawwin(stdscr); }

Key Screen::wait(std::chrono::milliseconds most) {
  wint_t code = 0;
  // What curses has read already is not seen by poll.
  int result = wget_wch(stdscr, &code);
  if (result != ERR) return key_of(result, code);
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(most);
  const timespec time = {seconds.count(), std::chrono::nanoseconds(most - seconds).count()};
  const int ready = ppoll(&input, 1, &time, &g_open_mask);
  if (g_signal != 0) return {Key::kHangUp};
  result = wget_wch(stdscr, &code);
  if (result != ERR) return key_of(result, code);
  const bool is_gone = ready > 0 && (input.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
  return {is_gone ? Key::kHangUp : Key::kNone};
}

int Screen::signal() const { return g_signal; }

}  // namespace tally::tool
