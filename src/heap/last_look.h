// A look at what is free as the process ends: a mistake that would have shown as its memory was
// used again is found though nothing is allocated any more.
#pragma once

namespace tally::core {

// Reports what is wrong with the free blocks of the running thread, as misuse; as far as a moment
// allows, and not at all where the thread may be in the middle of a step (exit was called by a
// signal handler). No memory but its own is looked at: other threads may run. Hardened, with
// TALLY_CHECK alone. Only where something is wrong `may_tell` is asked whether to say so: it may
// call the system, which a program that ends may have forbidden itself.
void look_at_end(bool (*may_tell)());

}  // namespace tally::core
