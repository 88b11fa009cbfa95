#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "checks.h"
#include "elf_file.h"
#include "executable.h"
#include "failure.h"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;

// What a name begins with, and what is to be known then.
struct Known {
  std::string_view prefix, text, advice;
};

constexpr Known kLibraries[] = {
    {"libjemalloc.so", "jemalloc", "mallocx and the like"},
    {"libmimalloc", "mimalloc", "mi_malloc and the like"},
    {"libtcmalloc", "tcmalloc", "tc_malloc and the like"},
};

constexpr Known kSanitizers[] = {
    {"__asan_init", "AddressSanitizer", ""}, {"__hwasan_init", "HWAddressSanitizer", ""},
    {"__tsan_init", "ThreadSanitizer", ""},  {"__msan_init", "MemorySanitizer", ""},
    {"__lsan_init", "LeakSanitizer", ""},
};

constexpr Known kOtherMallocs[] = {
    {"mallocx", "jemalloc", ""},   {"je_malloc", "jemalloc", ""}, {"_rjem_malloc", "jemalloc", ""},
    {"mi_malloc", "mimalloc", ""}, {"tc_malloc", "tcmalloc", ""}, {"rpmalloc", "rpmalloc", ""},
};

constexpr Known kRuntimes[] = {
    {"python", "Python keeps objects of up to 512 bytes in arenas of its own",
     "PYTHONMALLOC=malloc shows each of them, and is slower"},
    {"java", "Java's heap is mapped by the JVM itself",
     "Tally sees what is allocated beside it, as by JNI and the compiler"},
    {"node", "JavaScript's objects are in V8's own heap",
     "Tally sees what is allocated beside it, as Buffers"},
    {"php", "PHP keeps a heap of its own", "USE_ZEND_ALLOC=0 shows each block, and is slower"},
};

// What the symbols of a program tell.
struct AllocatorSymbols {
  std::string_view malloc;  // "exported", "inside", or empty: it has none
  bool has_tally = false, has_dlopen = false;
  std::set<std::string_view> sanitizers, mallocs;
};

AllocatorSymbols look_at_symbols(const ElfFile& file) {
  AllocatorSymbols found;
  file.each_symbol([&](const ElfFile::Symbol& symbol) {
    const std::string_view name = symbol.name.substr(0, symbol.name.find('@'));
    for (const Known& known : kSanitizers) {
      if (name == known.prefix) found.sanitizers.insert(known.text);
    }
    if (!symbol.is_defined) {
      found.has_dlopen |= name == "dlopen";
      return;
    }
    found.has_tally |= name == "tally_version";
    if (name == "malloc" && found.malloc.empty()) {
      found.malloc = symbol.is_exported ? "exported" : "inside";
    }
    for (const Known& known : kOtherMallocs) {
      if (name == known.prefix) found.mallocs.insert(known.text);
    }
  });
  return found;
}

void check_malloc(Findings& findings, const AllocatorSymbols& symbols) {
  if (symbols.has_tally) {
    findings.ok("malloc", "Tally is linked into it: it needs no preload, TALLY_* variables alone");
  } else if (symbols.malloc == "exported") {
    findings.problem("malloc", "the program has a malloc of its own",
                     "the dynamic linker takes it before any that is preloaded, and Tally sees "
                     "little; build it without");
  } else if (symbols.malloc == "inside") {
    findings.problem("malloc", "the program has a malloc of its own, for itself alone",
                     "Tally sees only what its libraries allocate; build it without");
  } else {
    findings.ok("malloc", "it has none of its own");
  }
  for (std::string_view name : symbols.mallocs) {
    if (symbols.has_tally) break;
    findings.note("malloc", "it has " + std::string(name) + " inside",
                  "what it allocates by that one's own names Tally does not see");
  }
  for (std::string_view name : symbols.sanitizers) {
    findings.problem("sanitizer", "it was built with " + std::string(name),
                     "a sanitizer must be the malloc itself; use a build without");
  }
}

void check_libraries(Findings& findings, const ElfFile& file) {
  for (const std::string& library : file.needed()) {
    for (const Known& known : kLibraries) {
      if (!library.starts_with(known.prefix)) continue;
      findings.note("libraries", "it is linked to " + library,
                    "Tally comes before it, but not for " + std::string(known.advice) +
                        "; --backend may put it below Tally");
    }
  }
}

// Tally's library needs the C library of GNU.
void check_linker(Findings& findings, const ElfFile& file) {
  const std::string& linker = file.dynamic_linker();
  if (linker.find("ld-musl") != linker.npos) {
    findings.problem("linker", "it runs with musl's C library",
                     "libtally.so needs the GNU C library; use a build for that");
  } else if (!fs::exists(linker)) {
    findings.problem("linker", "its dynamic linker " + linker + " is not here",
                     "it cannot be run here at all");
  }
}

void check_runtime(Findings& findings, const std::string& path, const ElfFile& file) {
  const std::string name = fs::path(path).filename();
  for (const Known& known : kRuntimes) {
    if (!name.starts_with(known.prefix)) continue;
    findings.note("runtime", std::string(known.text), std::string(known.advice));
  }
  if (file.has_section(".go.buildinfo")) {
    findings.note("runtime", "Go's heap is mapped by Go itself",
                  "Tally sees what its C code allocates");
  }
}

void check_file(Findings& findings, const std::string& path) {
  const std::string why_not = why_not_preloadable(path);
  if (!why_not.empty()) {
    const size_t colon = why_not.find(": ");  // " is for another processor: this Tally ..."
    findings.problem("preload", path + why_not.substr(0, colon), why_not.substr(colon + 2));
  } else {
    findings.ok("preload", path + " takes preloaded libraries");
  }
  const std::optional<ElfFile> file = ElfFile::open(path);
  if (!file) {
    findings.note("program", path + " is no ELF file", "what would run it cannot be told");
    return;
  }
  const AllocatorSymbols symbols = look_at_symbols(*file);
  if (why_not.empty()) {
    check_linker(findings, *file);
    check_malloc(findings, symbols);
    check_libraries(findings, *file);
    if (symbols.has_dlopen) {
      findings.note("dlopen", "it loads libraries as it runs",
                    "one that is loaded with RTLD_DEEPBIND uses the C library's malloc, which "
                    "Tally does not see");
    }
  }
  check_runtime(findings, path, *file);
}

// The words of a script's first line behind #!.
std::vector<std::string> words_of(const std::string& script) {
  std::ifstream file(script);
  std::string line;
  std::getline(file, line);
  std::istringstream in(line.substr(std::min<size_t>(line.size(), 2)));
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

// Who runs the script: "#!/usr/bin/env python3" means python3.
std::string runner_of(const std::string& script) {
  const std::string by = interpreter_of(script);
  const std::vector<std::string> words = words_of(script);
  const bool is_env = fs::path(by).filename() == "env" && words.size() > 1 && words[1][0] != '-';
  return find_program(is_env ? words[1] : by);
}

}  // namespace

void check_program(Findings& findings, const std::string& name) {
  try {
    std::string path = find_program(name);
    constexpr int kDeepest = 4;  // as the kernel follows them
    for (int i = 0; i < kDeepest && !interpreter_of(path).empty(); ++i) {
      const std::string by = runner_of(path);
      findings.ok("program", path.append(" is a script, which ").append(by).append(" runs"));
      path = by;
    }
    check_file(findings, path);
  } catch (const Failure& failure) {
    findings.problem("program", failure.what(), "");
  }
}

}  // namespace tally::tool
