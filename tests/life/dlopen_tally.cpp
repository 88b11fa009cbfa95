// libtally.so opened late by a program that knows nothing of it, as a plug-in's dependency is: its
// static TLS must fit, its API works, the program's malloc stays what it was, and it cannot be
// unloaded.
#include <dlfcn.h>

#include "threads.hpp"

int main(int argc, char** argv) {
  CHECK(!tally_is_live());
  CHECK(argc == 2);
  for (int i = 0; i < 20; i++) {
    void* tally = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (tally == nullptr) dprintf(2, "%s\n", dlerror());
    CHECK(tally != nullptr);
    auto create = reinterpret_cast<decltype(&tally_tag_create)>(dlsym(tally, "tally_tag_create"));
    auto allocate = reinterpret_cast<decltype(&tally_malloc)>(dlsym(tally, "tally_malloc"));
    auto release = reinterpret_cast<decltype(&tally_free)>(dlsym(tally, "tally_free"));
    auto tag_of = reinterpret_cast<decltype(&tally_tag_of)>(dlsym(tally, "tally_tag_of"));
    CHECK(create && allocate && release && tag_of);
    const tally_tag tag = create("/plugin");
    CHECK(tag != TALLY_TAG_NONE);
    void* p = allocate(tag, 1000);
    CHECK(p != nullptr && tag_of(p) == tag);
    auto work = [&] { release(allocate(tag, 2000)); };
    Thread thread(work);
    thread.join();
    CHECK(dlclose(tally) == 0);
    CHECK(tag_of(p) == tag);  // NODELETE: the code is still there
    release(p);
    void* mine = malloc(100);
    CHECK(tag_of(mine) == TALLY_TAG_NONE);
    free(mine);
  }
  return 0;
}
