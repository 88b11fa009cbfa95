// A plug-in opened with RTLD_DEEPBIND allocates from the C library past a preloaded malloc; what it
// hands over comes back through Tally's free and must find its way home, without a word.
#include <dlfcn.h>

#include "threads.hpp"

int main(int argc, char** argv) {
  CHECK_LIVE();
  CHECK(argc == 2);
  void* plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (plugin == nullptr) dprintf(2, "%s\n", dlerror());
  CHECK(plugin != nullptr);
  auto allocate = reinterpret_cast<void* (*)(size_t)>(dlsym(plugin, "plugin_allocate"));
  CHECK(allocate != nullptr);
  for (int i = 0; i < 1000; i++) {
    void* p = allocate(100);
    CHECK(p != nullptr);
    if (i % 2) {
      p = realloc(p, 300);
      CHECK(p != nullptr && static_cast<char*>(p)[99] == 'p');
    }
    free(p);
  }
  return 0;
}
