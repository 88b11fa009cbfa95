// Namespaces of the dynamic linker (dlmopen): what is loaded there has a libc of its own, whose
// malloc is not Tally's, on our threads. And Tally itself there, a second one in the process:
// namespaces PLUGIN [LIBRARY].
#include <dlfcn.h>

#include "threads.hpp"

namespace {

void* load(const char* path) {
  void* handle = dlmopen(LM_ID_NEWLM, path, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) dprintf(2, "%s\n", dlerror());
  CHECK(handle != nullptr);
  return handle;
}

template <class Function>
Function find(void* handle, const char* name) {
  auto function = reinterpret_cast<Function>(dlsym(handle, name));
  if (function == nullptr) dprintf(2, "%s\n", dlerror());
  CHECK(function != nullptr);
  return function;
}

void use_plugin(const char* path) {
  void* plugin = load(path);
  auto allocate = find<void* (*)(size_t)>(plugin, "plugin_allocate");
  auto release = find<void (*)(void*)>(plugin, "plugin_free");
  void* blocks[100];
  for (size_t i = 0; i < 100; i++) {
    blocks[i] = allocate(i * 100 + 1);
    CHECK(blocks[i] != nullptr && tally_tag_of(blocks[i]) == TALLY_TAG_NONE);
  }
  exercise(1);
  for (void* p : blocks) release(p);
  CHECK(dlclose(plugin) == 0);
}

void use_another(const char* path) {
  void* other = load(path);
  auto allocate = find<decltype(&tally_malloc)>(other, "tally_malloc");
  auto release = find<decltype(&tally_free)>(other, "tally_free");
  auto create = find<decltype(&tally_tag_create)>(other, "tally_tag_create");
  auto tag_of = find<decltype(&tally_tag_of)>(other, "tally_tag_of");
  const tally_tag tag = create("/other");
  CHECK(tag != TALLY_TAG_NONE && tally_tag_find("/other") == TALLY_TAG_NONE);
  void* theirs = allocate(tag, 1000);
  void* mine = malloc(1000);
  CHECK(tag_of(theirs) == tag && tally_tag_of(theirs) == TALLY_TAG_NONE);
  CHECK(tag_of(mine) == TALLY_TAG_NONE && tally_tag_of(mine) == TALLY_TAG_ROOT);
  auto work = [&] {
    exercise(2);
    release(allocate(tag, 5000));
  };
  Thread a(work), b(work);
  a.join(), b.join();
  free(mine);
  release(theirs);
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  CHECK(argc > 1);
  for (int i = 0; i < 3; i++) use_plugin(argv[1]);
  if (argc > 2) use_another(argv[2]);
  exercise(3);
  return 0;
}
