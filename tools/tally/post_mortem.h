// What is told of a program that did not tell it itself.
#pragma once

#include <cstdio>
#include <string>

#include "supervise.h"

namespace tally::tool {

// How it ended; and if it left a record, what it held, what grew before, what happened at limits,
// and where that is kept.
void print_post_mortem(const Ending& ending, FILE* out);

// True if it was told: a program that exits past its handlers reports nothing, and leaves its
// record: what that tells, if there is one; `out` may be nullptr. Then it is removed, unless it is
// to be kept.
bool print_silent_end(const Ending& ending, bool keep, FILE* out);

// What it had not freed, by its record, which is removed then unless it is to be kept.
void print_leaks(const Ending& ending, bool keep, FILE* out);

// What the record tells; nothing if it was left at an orderly end. Throws Failure if there is none,
// or none of this program.
std::string post_mortem_of(const std::string& record_file, const Ending& ending);

}  // namespace tally::tool
