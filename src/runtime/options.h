// Options from the environment: TALLY_CONF="key:value,..." first, then TALLY_<KEY>, which wins.
#pragma once

namespace tally::core {

// Fills base/options.h. Ignores the environment of a program with raised rights. What is unknown or
// wrong is said on stderr, a line each, and the default stays.
void read_options();

}  // namespace tally::core
