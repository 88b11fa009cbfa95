// What libtally-hardened.so does more, of pages: nobody may access those that hold nothing. Free
// slots of a chunk and kept spans are closed; an open run or span ends at a page that stays so, and
// so lies behind one. Each border between open and closed is one between mappings, of which a
// process may have so many. So a chunk or span that comes when ours are as many as may be is open
// as a whole, and stays so (a chunk for ever). All of this is quietly gone without, too, where the
// system refuses, and on memory of backends that do not deal in pages.
//
// Where a slab was, pages stay for a while, as other free memory's do: most were used, and whoever
// has a slab there next need not fault them in one by one. A large block's go as it is freed: what
// of it was used nobody knows without a call that sandboxes kill for, and to zero the rest before
// the next one has it would use that too.
#pragma once

#include <cstddef>

#include "base/config.h"
#include "os/os.h"

namespace tally::core::guard {

// Behind each run and span; 0 in the default build, and where pages are long.
inline size_t bytes() {
  if constexpr (!kHardened) return 0;
  const size_t page = os::page_size();
  return page <= kSlotBytes / 4 ? page : 0;
}

// So many mappings may come of something; false: that would be more than may be. And it is gone.
bool take_mappings(unsigned count);
void give_mappings(unsigned count);

}  // namespace tally::core::guard
