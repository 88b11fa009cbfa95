// Empty memory goes back to the system: on a clock that whoever takes or gives slabs winds, and on
// demand.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tally::core {

// Looks at the clock; at most a few times per TALLY_PURGE_MS there is work. No lock held.
void purge_tick();
// Provided by the layer above: purge_tick calls it, with no lock held. Most often it is to do
// nothing, at no cost.
void on_tick(uint64_t now_ms);
// How often there was. A thread that sees it change gives back what its idle heaps have in hand.
extern constinit std::atomic<uint32_t> purge_rounds;
// Everything that is free, now. Returns the bytes that went back. No lock held. `mine`: also what
// the running thread has in hand, if it is in no step of the heap's.
size_t purge_all(bool mine = true);
// Memory was refused: gives up all that is kept, its addresses too. True if it may be worth asking
// again. No lock held.
bool make_room();

}  // namespace tally::core
