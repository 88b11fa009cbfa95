// What libtally-hardened.so does more, of pages: nobody may access those that hold nothing. Free
// slots of a chunk and kept spans are closed; an open run or span ends at a page that stays so, and
// so lies behind one. Each border between open and closed is one between mappings, of which a
// process may have so many. So a chunk or span that comes when ours are as many as may be is open
// as a whole, and stays so (a chunk for ever). All of this is quietly gone without, too, where the
// system refuses, and on memory of backends that do not deal in pages.
//
// The pages stay for a while, as other free memory's do: whoever has a slab or large block there
// next need not fault them in one by one. (With TALLY_ZERO=1 they go as the memory is freed, which
// is how it becomes zero.)
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
