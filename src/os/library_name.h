// The name of a library in memory, whichever C library loaded it.
#pragma once

#include <link.h>
#include <string.h>

#include "base/text.h"
#include "os/libc.h"

namespace tally::core::os {

// DT_SONAME; nullptr if it has none. The linker may or may not have added the module's address, the
// bias, to the pointers in its dynamic section.
inline const char* soname_of(const Module& module, const ElfW(Dyn) * entry, uintptr_t bias) {
  uintptr_t strings = 0, offset = 0;
  bool has_name = false;
  for (; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) strings = entry->d_un.d_ptr;
    if (entry->d_tag != DT_SONAME) continue;
    has_name = true;
    offset = entry->d_un.d_val;
  }
  if (strings < module.start) strings += bias;
  uintptr_t name = strings + offset;
  bool is_inside = strings >= module.start && name >= strings && name < module.end;
  return has_name && is_inside ? reinterpret_cast<const char*>(name) : nullptr;
}

// For module_name (libc.h): its soname, else that of its file.
inline void library_name(const Module& module, const ElfW(Dyn) * dynamic, uintptr_t bias,
                         const char* path, char* name, size_t capacity) {
  const char* whole = soname_of(module, dynamic, bias);
  if (whole == nullptr || *whole == 0) whole = path;
  const char* slash = strrchr(whole, '/');
  TextWriter out(name, capacity - 1);
  out.put(slash == nullptr ? whole : slash + 1);
  name[out.used()] = 0;
}

}  // namespace tally::core::os
