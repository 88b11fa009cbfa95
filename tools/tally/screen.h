// The terminal as a screen of characters, and its keys. Only one at a time.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "text.h"

namespace tally::tool {

// Why there can be no screen: what stdin, stdout or TERM are. "" if there can.
std::string why_no_screen();

struct Key {
  enum Kind {
    kNone,       // the time is over
    kCharacter,  // `character`
    kEnter,
    kEscape,
    kBackspace,
    kUp,
    kDown,
    kPageUp,
    kPageDown,
    kHome,
    kEnd,
    kResize,
    kHangUp,  // a signal that ends programs came, or the terminal is gone
    kOther
  };
  Kind kind = kNone;
  char32_t character = 0;
};

class Screen {
 public:
  // Throws Failure if why_no_screen() says so. The signals of a user's that end a program become
  // keys as long as it lives.
  Screen();
  // The terminal is as it was.
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  int height() const;
  int width() const;

  enum class Look { kPlain, kReverse };
  void clear();
  // At most `width` columns; what lies outside of the screen is cut off.
  void put(int y, int x, const std::string& text, int width, Style style = Style::kNone,
           Look look = Look::kPlain);
  void show();
  // Everything anew, after another program wrote there.
  void repaint();

  Key wait(std::chrono::milliseconds most);
  // The signal of kHangUp, 0 if there was none.
  int signal() const;
};

}  // namespace tally::tool
