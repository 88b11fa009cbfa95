// What is told of a program that a signal ended.
#pragma once

#include <cstdio>
#include <string>

#include "supervise.h"

namespace tally::tool {

// How it ended; and if it left a record, what it held, what grew before, what happened at limits,
// and where that is kept.
void print_post_mortem(const Ending& ending, FILE* out);

// Of that what the record tells. Throws Failure if there is none, or none of this program.
std::string post_mortem_of(const std::string& record_file, const Ending& ending);

}  // namespace tally::tool
