// What operator new needs of the C++ runtime when memory runs out. libtally.so must not need
// libstdc++, as C programs have none: it finds the program's own (cxx_runtime_found.cpp). The
// static libraries link it (cxx_runtime_linked.cpp).
#pragma once

#include <new>

namespace tally::core {

// nullptr: none is set, or there is no C++ runtime.
std::new_handler current_new_handler();
// std::bad_alloc of the program's own runtime.
[[noreturn]] void throw_bad_alloc();

}  // namespace tally::core
