// The backend "libc": glibc's own malloc, which is there under other names where Tally is malloc.
#include "backend/backend.h"
#include "os/libc.h"

namespace tally::core::backend {

constinit Backend libc = {
    .name = "libc",
    .how_to_load =
        "the C library is not glibc, is linked statically, or a sanitizer stands in for "
        "some of its malloc",
    .is_loaded = core::os::has_libc,
    .take = [](size_t bytes, size_t alignment) { return core::os::libc_aligned(alignment, bytes); },
    .give =
        [](void* p, size_t) {
          core::os::libc_free(p);
          return true;
        },
    .surplus_bytes =
        [](uint64_t taken) {
          uint64_t held = core::os::libc_held_bytes();
          return held > taken ? held - taken : 0;
        },
    .gives_zeroed = false,
    .resize = nullptr,
};

}  // namespace tally::core::backend
