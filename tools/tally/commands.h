// The commands of `tally`. Each gets the arguments from its own name on and returns the exit
// status; it throws Failure.
#pragma once

namespace tally::tool {

// Becomes another program, with Tally as its malloc. Returns after --help alone.
int run(int argc, char** argv);

}  // namespace tally::tool
