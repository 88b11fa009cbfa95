// The backend "jemalloc", version 5: its own interface, which nobody else's malloc has. The symbols
// are weak: they are there if the library is loaded with the program, and then whether or not its
// malloc is the program's.
#include <bit>

#include "backend/backend.h"

extern "C" {
__attribute__((weak)) void* mallocx(size_t size, int flags);
__attribute__((weak)) void dallocx(void* p, int flags);
__attribute__((weak)) int mallctl(const char* name, void* old, size_t* old_length, void* now,
                                  size_t now_length);
}

namespace tally::core::backend {
namespace {

// As in jemalloc.h. A thread's cache would be of no use for so few and so large blocks.
constexpr int kNoThreadCache = 0x100;
int flags_for(size_t alignment) { return std::countr_zero(alignment) | kNoThreadCache; }

uint64_t figure(const char* name) {
  size_t value = 0;
  size_t length = sizeof value;
  return mallctl(name, &value, &length, nullptr, 0) == 0 ? value : 0;
}

}  // namespace

constinit Backend jemalloc = {
    .name = "jemalloc",
    .how_to_load =
        "install libjemalloc2, and start the program by tally run --backend=jemalloc or with "
        "libjemalloc.so.2 behind libtally.so in LD_PRELOAD",
    .is_loaded =
        [] {
          if (mallocx == nullptr || dallocx == nullptr || mallctl == nullptr) {
            return false;
          }
          void* p = mallocx(1, kNoThreadCache);
          if (p != nullptr) dallocx(p, kNoThreadCache);
          return p != nullptr;
        },
    .take = [](size_t bytes, size_t alignment) { return mallocx(bytes, flags_for(alignment)); },
    .give =
        [](void* p, size_t) {
          dallocx(p, kNoThreadCache);
          return true;
        },
    .surplus_bytes = [](uint64_t) -> uint64_t {
      // Its statistics are as of the last change of the epoch.
      uint64_t epoch = 1;
      size_t length = sizeof epoch;
      mallctl("epoch", &epoch, &length, &epoch, sizeof epoch);
      uint64_t resident = figure("stats.resident"), active = figure("stats.active");
      return resident > active ? resident - active : 0;
    },
    .surplus_is_resident = true,
    .gives_zeroed = false,
    .resize = nullptr,
};

}  // namespace tally::core::backend
