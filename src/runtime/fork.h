// The handlers around fork.
#pragma once

namespace tally::core {

// Ours are registered with the first use; this is one. For who is about to register others.
void have_fork_handlers();

}  // namespace tally::core
