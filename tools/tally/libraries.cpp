#include "libraries.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "environment.h"
#include "executable.h"
#include "failure.h"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;

// "a, b or c".
template <class Names>
std::string listed(const Names& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i != 0) text += i + 1 == names.size() ? " or " : ", ";
    text += names[i];
  }
  return text;
}

std::vector<std::string> folders_of(const std::string& list) {
  std::vector<std::string> folders;
  for (size_t start = 0; !list.empty() && start <= list.size();) {
    size_t end = std::min(list.find_first_of(":;", start), list.size());
    // An empty name is the current folder's.
    folders.push_back(end == start ? "." : list.substr(start, end - start));
    start = end + 1;
  }
  return folders;
}

// The files that `ldconfig -p` lists: "NAME (KIND) => FILE". It is often not in a user's PATH.
std::vector<std::string> cached_libraries() {
  std::vector<std::string> files;
  FILE* list = popen("PATH=\"$PATH:/usr/sbin:/sbin\" ldconfig -p 2>/dev/null", "r");
  if (list == nullptr) return files;
  char line[4096];
  constexpr char kArrow[] = " => ";
  while (fgets(line, sizeof line, list) != nullptr) {
    line[strcspn(line, "\n")] = 0;
    const char* arrow = strstr(line, kArrow);
    if (arrow != nullptr) files.emplace_back(arrow + strlen(kArrow));
  }
  pclose(list);
  return files;
}

std::string in_folders(const Backend& backend, const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    for (std::string_view file : backend.files) {
      std::string path = fs::path(folder) / file;
      if (is_shared_library(path)) return path;
    }
  }
  return "";
}

std::string among_files(const Backend& backend, const std::vector<std::string>& paths) {
  for (std::string_view file : backend.files) {
    for (const std::string& path : paths) {
      if (fs::path(path).filename() == file && is_shared_library(path)) return path;
    }
  }
  return "";
}

}  // namespace

const std::vector<Backend>& backends() {
  static const std::vector<Backend> all = {
      {"os", {}, "", ""},
      {"libc", {}, "", ""},
      {"jemalloc", {"libjemalloc.so.2"}, "libjemalloc2", "mallocx"},
      {"mimalloc",
       {"libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so"},
       "libmimalloc2.0",
       "mi_malloc_aligned"},
  };
  return all;
}

const Backend* find_backend(std::string_view name) {
  for (const Backend& backend : backends()) {
    if (backend.name == name) return &backend;
  }
  return nullptr;
}

std::string backend_names() {
  std::vector<std::string_view> names;
  for (const Backend& backend : backends()) names.push_back(backend.name);
  return listed(names);
}

SearchPath linker_search_path() {
  SearchPath path = {folders_of(variable("LD_LIBRARY_PATH")), cached_libraries(), {}};
  for (const std::string prefix : {"/", "/usr/", "/usr/local/"}) {
    path.standard.push_back(prefix + TALLY_LIBRARY_FOLDER);
    path.standard.push_back(prefix + "lib");
  }
  return path;
}

std::string preloadable(const std::string& file) {
  std::string path = fs::absolute(file);
  if (!fs::exists(path)) throw Failure(kConfiguration, path + ": no such library");
  if (!is_shared_library(path)) {
    throw Failure(kConfiguration, path + ": not a shared library for this kind of machine");
  }
  if (path.find_first_of(" :") != path.npos) {
    throw Failure(kConfiguration,
                  path +
                      ": LD_PRELOAD cannot name a path with a space or a colon, for it takes "
                      "either to separate two libraries");
  }
  return path;
}

std::string backend_library(const Backend& backend, const std::string& file) {
  std::string path = preloadable(file);
  std::ifstream library(path, std::ios::binary);
  const std::string content(std::istreambuf_iterator<char>(library), {});
  // As the names of symbols end; they may begin within a longer one.
  if (content.find(std::string(backend.symbol) + '\0') == content.npos) {
    throw Failure(kConfiguration, path + ": has no " + std::string(backend.symbol) +
                                      ", so it cannot be the backend " + std::string(backend.name));
  }
  return path;
}

std::string find_tally_library(const std::string& given, const std::string& name) {
  if (!given.empty()) return preloadable(given);
  const fs::path own = fs::read_symlink("/proc/self/exe").parent_path();
  const fs::path prefix = own.parent_path();
  std::string looked_at;
  // As it is installed and built; and all in one folder.
  const fs::path installed = (own / TALLY_INSTALLED_LIBRARIES).lexically_normal();
  for (const fs::path& folder : {installed, prefix / "lib", own}) {
    std::string path = folder / name;
    if (fs::exists(path)) return preloadable(path);
    if (looked_at.find(path) != looked_at.npos) continue;
    looked_at += (looked_at.empty() ? "" : ", ") + path;
  }
  throw Failure(kConfiguration, name + " was not found; looked for " + looked_at +
                                    "; name it by --library PATH or TALLY_LIBRARY=PATH");
}

std::string find_backend_library(const Backend& backend, const SearchPath& where) {
  std::string path = in_folders(backend, where.first);
  if (path.empty()) path = among_files(backend, where.cached);
  if (path.empty()) path = in_folders(backend, where.standard);
  if (!path.empty()) return backend_library(backend, path);
  const std::string name(backend.name);
  throw Failure(kConfiguration,
                "backend " + name + ": no " + listed(backend.files) +
                    " in LD_LIBRARY_PATH, the dynamic linker's cache or the standard folders: "
                    "install Debian's package " +
                    std::string(backend.package) + ", or name the file by --backend=" + name +
                    "=PATH");
}

}  // namespace tally::tool
