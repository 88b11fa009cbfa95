#include "bars.h"

#include <algorithm>
#include <cmath>

#include "text.h"

namespace tally::tool {

Bars bars_of_stdout() { return has_terminal() && is_utf8() ? Bars::kBlocks : Bars::kDigits; }

std::string bars(std::span<const uint64_t> values, uint64_t most, Bars kind) {
  const int steps = kind == Bars::kBlocks ? 8 : 9;
  std::string text;
  for (uint64_t value : values) {
    double part = most == 0 ? 0 : double(std::min(value, most)) / double(most);
    int step = value == 0 ? 0 : std::clamp(int(std::lround(part * steps)), 1, steps);
    if (kind == Bars::kDigits) {
      text += step == 0 ? '.' : char('0' + step);
    } else if (step == 0) {
      text += "\u00b7";
    } else {
      text += "\xe2\x96";  // U+2580 and what follows it
      text += char(0x80 + step);
    }
  }
  return text;
}

}  // namespace tally::tool
