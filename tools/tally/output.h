// Where a command's result goes, if not to the terminal.
#pragma once

#include <string>

namespace tally::tool {

// To stdout if the file is "-". A regular file is replaced whole or not at all, so that who looks
// at the old one goes on to see it meanwhile; anything else (a pipe, a device, a link) is written
// into. Throws Failure (kFailed).
void write_output(const std::string& file, const std::string& text);

}  // namespace tally::tool
