// What a killed process of this process's number left, as in a container that is started anew.
#pragma once

namespace tally::tool {

// The library makes a record by this process's number and removes what is in its place. So the
// record of a dead process is renamed to last.tally, in its folder, in the place of an earlier one.
// By system calls alone, as a child of vfork may call it.
void keep_last_record();

}  // namespace tally::tool
