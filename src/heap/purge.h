// Empty memory goes back to the system: on a clock that whoever takes or gives slabs winds, and on
// demand.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/counter.h"

namespace tally::core {

// Looks at the clock; at most a few times per TALLY_PURGE_MS there is work. No lock held.
void purge_tick();
// Provided by the layer above: purge_tick calls it, with no lock held. Most often it is to do
// nothing, at no cost.
void on_tick(uint64_t now_ms);
// How often there was. A thread that sees it change gives back what its idle heaps have in hand.
extern constinit std::atomic<uint32_t> purge_rounds;
// Blocks leave the hand of a shared thread, as nobody has asked for any for a while, or somebody
// trims. Who adds counts up reads again if there was such a step meanwhile: a program that does
// nothing is not to see its counts change by that.
extern constinit Moves shared_flushes;
// Returns when none is under way, nor a heap's end; or after a while, and at once in the midst of
// one (in a signal handler).
void await_moves();
// In a forked child: who was in the midst of one is gone.
void forget_others_moves();
// Everything that is free, now. Returns the bytes that went back. No lock held. `mine`: also what
// the running thread has in hand, if it is in no step of the heap's.
size_t purge_all(bool mine = true);
// Memory was refused: gives up all that is kept, its addresses too. True if it may be worth asking
// again. No lock held.
bool make_room();

}  // namespace tally::core
