// What libtally-hardened.so does more, of pages: nobody may access those that hold nothing. Free
// slots of a chunk and kept spans are closed; an open run or span ends at a page that stays so, and
// so lies behind one. All of that is quietly gone without where the system refuses, or where there
// would be too many mappings; and on memory of backends that do not deal in pages.
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

// A run or span of which two mappings come; false: there are as many as may be. And it is gone.
bool take_place();
void give_place();

}  // namespace tally::core::guard
