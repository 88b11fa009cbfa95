// TALLY_LIMIT, TALLY_LIMITS and TALLY_FAULT.
#pragma once

#include "runtime/parse.h"

namespace tally::core {

inline constexpr char kLimitAccepts[] =
    "a size of at most 64T, such as 2G, or a share, 0% to 100% of the memory";
inline constexpr char kLimitsAccepts[] = "TAG=SIZE, such as cache/blocks=512M or /=90%";
inline constexpr char kFaultAccepts[] =
    "TAG:nth=N, TAG:p=0.001:seed=N or TAG:above=SIZE, and / for all tags";

// Look at the text, which stays where it is, and keep it for apply_limits. What is wrong is said at
// once; the other parts of a list hold.
bool set_limit_option(Text value);
bool set_limits_option(Text value);
bool set_fault_option(Text value);

// What was expected where a tag's path gave this errno.
const char* expected_path(int error);

// When all options are read: makes the tags, and sets what was asked for.
void apply_limits();

}  // namespace tally::core
