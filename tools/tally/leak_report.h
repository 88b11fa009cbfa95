// What lives, told as a search for leaks: how old it is, whether it grew, and how much of its kind
// is ever freed.
#pragma once

#include <string>

#include "profile.h"
#include "profile_formats.h"
#include "record.h"
#include "symbols.h"

namespace tally::tool {

// Of the tag and those below it.
std::string leak_report(const Record& record, const Profile& profile, Symbols& symbols,
                        const std::string& tag, const TableSize& size);

}  // namespace tally::tool
