// The shared libraries that `tally run` preloads.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tally::tool {

struct Backend {
  std::string_view name;
  std::vector<std::string_view> files;  // what its library may be called; none: it needs none
  std::string_view package;             // of Debian
  std::string_view symbol;              // that Tally calls it by
};

const std::vector<Backend>& backends();

// nullptr if the library has no backend of that name.
const Backend* find_backend(std::string_view name);

// "os, libc, jemalloc or mimalloc".
std::string backend_names();

// Where a library is looked for, in this order, which is the dynamic linker's.
struct SearchPath {
  std::vector<std::string> first;     // folders: LD_LIBRARY_PATH
  std::vector<std::string> cached;    // files: what ldconfig knows
  std::vector<std::string> standard;  // folders
};
SearchPath linker_search_path();

// libtally.so, ready for LD_PRELOAD: the file that was given, if one was, else one near this
// program, under the name that programs are linked to: the plain one comes with the headers. Throws
// Failure (kConfiguration).
inline constexpr char kLibrary[] = "libtally.so." TALLY_SOVERSION;
inline constexpr char kHardenedLibrary[] = "libtally-hardened.so." TALLY_SOVERSION;
std::string find_tally_library(const std::string& given, const std::string& name = kLibrary);

// Likewise the library of a backend that needs one. It is looked for and not loaded: jemalloc as
// Debian has it cannot be loaded by dlopen.
std::string find_backend_library(const Backend& backend, const SearchPath& where);

// `file`, ready for LD_PRELOAD, if it is the backend's library. Throws Failure (kConfiguration).
std::string backend_library(const Backend& backend, const std::string& file);

// The file as LD_PRELOAD takes it, an absolute path. Throws Failure (kConfiguration) if it is no
// library or has a name that cannot be preloaded.
std::string preloadable(const std::string& file);

}  // namespace tally::tool
