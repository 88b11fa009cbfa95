// A snapshot as the record has it.
#pragma once

#include <cstddef>

#include "record/layout.h"
#include "tag/names.h"

namespace tally::record {

// Puts rows of tags and classes behind the head at `frame` (kFrameBytes, aligned), and fills the
// head but for its seal, time, ledger and what comes behind the rows. Where there is no room the
// tags with the smallest totals are left out, so that what is above a tag that stays stays too.
// Returns where the rows end.
char* pack_rows(const tally_snapshot_t& snapshot, core::Names& names, FrameHead* frame);

// All but the seal, the time and RSS.
void pack_point(const tally_snapshot_t& snapshot, core::Names& names, Point* point);

// What the snapshot knows of the ledger: all but `rss`, `shared`, `recorder` and what pages tell
// (dirty, kept, untouched).
Ledger ledger_of(const tally_snapshot_t& snapshot);

}  // namespace tally::record
