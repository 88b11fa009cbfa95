// What caller.cpp exports.
#pragma once

#include <dlfcn.h>
#include <malloc.h>

#include <cstddef>

#include "check.h"

struct Way {
  const char* name;
  void* (*allocate)(size_t n);
};

// The library, loaded.
struct Caller {
  void* handle;
  const Way* (*ways)(size_t* count);
  void* (*allocate)(size_t n);
  void* (*resize)(void* p, size_t n);
  void* (*copy)(const char* text);

  explicit Caller(const char* path) : handle(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (handle == nullptr) dprintf(2, "%s\n", dlerror());
    CHECK(handle != nullptr);
    find(&ways, "caller_ways");
    find(&allocate, "caller_allocate");
    find(&resize, "caller_resize");
    find(&copy, "caller_copy");
  }
  void close() const { CHECK(dlclose(handle) == 0); }

 private:
  template <class Function>
  void find(Function** function, const char* name) {
    *function = reinterpret_cast<Function*>(dlsym(handle, name));
    CHECK(*function != nullptr);
  }
};

inline const char* tag_name_of(const void* p) {
  static thread_local char name[TALLY_TAG_PATH_MAX + 1];
  CHECK(tally_tag_name(tally_tag_of(p), name, sizeof name) < sizeof name);
  return name;
}

// As CHECK(the block's tag has this path).
#define CHECK_TAG(p, path)                                                                \
  do {                                                                                    \
    if (strcmp(tag_name_of(p), path) != 0) {                                              \
      dprintf(2, "%s:%d: tagged %s, not %s\n", __FILE__, __LINE__, tag_name_of(p), path); \
      _exit(1);                                                                           \
    }                                                                                     \
  } while (0)
