// TALLY_LIMIT, TALLY_LIMITS and TALLY_FAULT.
#pragma once

#include "runtime/parse.h"

namespace tally::core {

inline constexpr char kLimitAccepts[] =
    "a size or a share of the memory, such as 2G or 90%, and :soft=SIZE, :wait=MS, :abort or :fail";

// Look at the text, which stays where it is, and keep it for apply_limits. False: it is none. What
// is wrong with a part of a list is said at once, and the other parts hold.
bool set_limit_option(Text value);
bool set_limits_option(Text value);
bool set_fault_option(Text value);

// When all options are read: makes the tags, and sets what was asked for.
void apply_limits();

}  // namespace tally::core
