// The backend "mimalloc", version 2 or 3, by its own interface; weak, as jemalloc's.
#include "backend/backend.h"

extern "C" {
__attribute__((weak)) void* mi_malloc_aligned(size_t size, size_t alignment);
__attribute__((weak)) void mi_free(void* p);
__attribute__((weak)) void mi_process_info(size_t* elapsed_ms, size_t* user_ms, size_t* system_ms,
                                           size_t* rss, size_t* peak_rss, size_t* commit,
                                           size_t* peak_commit, size_t* faults);
}

namespace tally::core::backend {

constinit Backend mimalloc = {
    .name = "mimalloc",
    .how_to_load =
        "install libmimalloc2.0, and start the program by tally run --backend=mimalloc or with "
        "libmimalloc.so.2 behind libtally.so in LD_PRELOAD",
    .is_loaded =
        [] {
          if (mi_malloc_aligned == nullptr || mi_free == nullptr) {
            return false;
          }
          void* p = mi_malloc_aligned(1, 1);
          mi_free(p);
          return p != nullptr;
        },
    .take = [](size_t bytes, size_t alignment) { return mi_malloc_aligned(bytes, alignment); },
    .give =
        [](void* p, size_t) {
          mi_free(p);
          return true;
        },
    .surplus_bytes = [](uint64_t taken) -> uint64_t {
      if (mi_process_info == nullptr) return 0;
      size_t commit = 0, unused;
      mi_process_info(&unused, &unused, &unused, &unused, &unused, &commit, &unused, &unused);
      return commit > taken ? commit - taken : 0;
    },
    .gives_zeroed = false,
    .resize = nullptr,
};

}  // namespace tally::core::backend
