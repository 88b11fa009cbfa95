// dlopen and dlclose of a plug-in 500 times, blocks crossing over in both directions and outliving
// the plug-in.
#include <dlfcn.h>

#include "threads.hpp"

int main(int argc, char** argv) {
  CHECK_LIVE();
  CHECK(argc == 2);
  size_t rss = 0;
  for (int i = 0; i < 500; i++) {
    void* plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (plugin == nullptr) dprintf(2, "%s\n", dlerror());
    CHECK(plugin != nullptr);
    auto allocate = reinterpret_cast<void* (*)(size_t)>(dlsym(plugin, "plugin_allocate"));
    auto release = reinterpret_cast<void (*)(void*)>(dlsym(plugin, "plugin_free"));
    CHECK(allocate != nullptr && release != nullptr);
    void* theirs = nullptr;
    auto work = [&] { theirs = allocate(1000); };
    Thread thread(work);
    thread.join();
    CHECK(tally_tag_of(theirs) == TALLY_TAG_ROOT);
    release(malloc(500));
    CHECK(dlclose(plugin) == 0);
    CHECK(*static_cast<char*>(theirs) == 'p');
    free(theirs);
    if (i == 50) rss = rss_bytes();
  }
  CHECK_OP(rss_bytes(), <, rss + (4 << 20));
  return 0;
}
