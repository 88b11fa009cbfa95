// TALLY_TAG_BY and TALLY_TAGS.
#pragma once

#include "runtime/parse.h"

namespace tally::core {

// When the options are read, before any thread's first block: from here on the rule holds, with
// what the file of TALLY_TAGS says. What is wrong in it is said on stderr, a line each.
void start_tag_rule();

// The text of such a file, which stays where it is and is changed; `path` is for messages.
void read_tag_rules(const char* path, char* text, size_t length);

}  // namespace tally::core
