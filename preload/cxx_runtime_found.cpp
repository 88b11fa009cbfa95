// Weak references serve programs that link a C++ runtime. One that a plug-in brought later is found
// by name.
#include <dlfcn.h>

#include "cxx_runtime.h"
#include "os/os.h"

extern "C" {
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) std::new_handler _ZSt15get_new_handlerv();
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) void _ZSt17__throw_bad_allocv();
}

namespace tally::core {
namespace {

template <class Function>
Function* find(Function* linked, const char* name) {
  if (linked != nullptr) return linked;
  static constexpr const char* kRuntimes[] = {"libstdc++.so.6", "libc++.so.1", "libc++abi.so.1"};
  for (const char* runtime : kRuntimes) {
    // Only asks whether it is loaded; the handle is not closed, which keeps it so.
    void* handle = dlopen(runtime, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == nullptr) continue;
    if (void* found = dlsym(handle, name)) return reinterpret_cast<Function*>(found);
  }
  return nullptr;
}

}  // namespace

std::new_handler current_new_handler() {
  auto* get = find(_ZSt15get_new_handlerv, "_ZSt15get_new_handlerv");
  return get == nullptr ? nullptr : get();
}

void throw_bad_alloc() {
  auto* throw_it = find(_ZSt17__throw_bad_allocv, "_ZSt17__throw_bad_allocv");
  if (throw_it != nullptr) throw_it();
  static constexpr char kText[] =
      "tally: operator new: out of memory, and no C++ runtime to throw std::bad_alloc\n";
  os::write_all(2, kText, sizeof kText - 1);
  os::abort_process();
}

}  // namespace tally::core
