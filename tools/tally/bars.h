// Numbers as a row of bars, a character each.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tally::tool {

enum class Bars {
  kBlocks,  // from U+2581 to U+2588
  kDigits,  // 1 to 9
};
// What stdout shows: blocks if it is a terminal that takes UTF-8.
Bars bars_of_stdout();

// Each value as a part of `most`, a dot if it is 0; whatever else there is has a bar.
std::string bars(std::span<const uint64_t> values, uint64_t most, Bars kind);

}  // namespace tally::tool
