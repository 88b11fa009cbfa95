// The backend "os": mappings straight from the kernel.
#include "backend/backend.h"
#include "os/os.h"

namespace tally::core::backend {

constinit Backend os = {
    .name = "os",
    .how_to_load = "",
    .is_loaded = [] { return true; },
    .take = core::os::map,
    .give = core::os::unmap,
    .surplus_bytes = nullptr,
    .gives_zeroed = true,
    .resize = core::os::remap,
};

}  // namespace tally::core::backend
