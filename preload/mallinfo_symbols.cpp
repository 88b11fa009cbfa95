// The C names of api/mallinfo.h.
#include "api/mallinfo.h"

#define TALLY_EXPORT __attribute__((visibility("default"), used))

extern "C" {

TALLY_EXPORT struct mallinfo mallinfo() noexcept { return tally::core::api::mallinfo(); }
TALLY_EXPORT struct mallinfo2 mallinfo2() noexcept { return tally::core::api::mallinfo2(); }

}  // extern "C"
