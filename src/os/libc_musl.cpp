// libc.h for musl. It tells what is loaded under a lock of its linker's, but never unloads: what
// was found once is kept here, and found again without. Its own malloc has no other name, so that
// no block of it is ever known to be one.
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include <atomic>

#include "base/math.h"
#include "os/libc.h"
#include "os/library_name.h"
#include "os/os.h"
#include "os/vdso.h"

namespace tally::core::os {
namespace {

struct Known {
  Module module;
  bool is_program = false;
  uintptr_t bias = 0;
  const ElfW(Dyn) * dynamic = nullptr;
  const char* path = nullptr;
};
// Any thread takes the next one, fills it, and says that it is whole. Two may hold the same module.
struct Place {
  Known known;
  std::atomic<bool> is_whole;
};
constexpr size_t kPlaces = 1024;
constinit Place g_places[kPlaces] = {};
constinit std::atomic<size_t> g_taken{0};

const Known& known_of(const Module& module) { return *static_cast<const Known*>(module.id); }

struct Search {
  const void* address;
  size_t looked_at = 0;  // the first is the program
  Known found = {};
};

int look_at(dl_phdr_info* info, size_t /*bytes*/, void* arg) {
  auto& search = *static_cast<Search*>(arg);
  Known one = {{}, search.looked_at++ == 0, info->dlpi_addr, nullptr, info->dlpi_name};
  uintptr_t start = UINTPTR_MAX, end = 0;
  for (size_t i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const uintptr_t at = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_DYNAMIC) one.dynamic = reinterpret_cast<const ElfW(Dyn)*>(at);
    if (segment.p_type == PT_GNU_EH_FRAME) {
      one.module.unwinding = reinterpret_cast<const void*>(at);
    }
    if (segment.p_type != PT_LOAD) continue;
    start = min_of(start, at & ~(page_size() - 1));
    end = max_of(end, at + segment.p_memsz);
  }
  if (start > end) return 0;  // nothing of it is mapped
  one.module.start = start;
  one.module.end = end;
  if (!one.module.contains(search.address)) return 0;
  search.found = one;
  return 1;
}

}  // namespace

bool libc_owns(const void* /*p*/) { return false; }
void libc_free(void* /*p*/) {}
void* libc_realloc(void* /*p*/, size_t /*bytes*/) { return nullptr; }
size_t libc_usable_size(const void* /*p*/) { return 0; }

bool has_loader() { return getauxval(AT_BASE) != 0; }

bool find_module(const void* address, Module* module) {
  const size_t taken = min_of(g_taken.load(std::memory_order_relaxed), kPlaces);
  for (size_t i = 0; i < taken; ++i) {
    const Place& place = g_places[i];
    if (!place.is_whole.load(std::memory_order_acquire)) continue;
    if (!place.known.module.contains(address)) continue;
    *module = place.known.module;
    return true;
  }
  Search search = {address};
  if (dl_iterate_phdr(look_at, &search) == 0) return false;
  const size_t next = g_taken.fetch_add(1, std::memory_order_relaxed);
  if (next >= kPlaces) return false;
  Place& place = g_places[next];
  place.known = search.found;
  place.known.module.id = &place.known;
  place.is_whole.store(true, std::memory_order_release);
  *module = place.known.module;
  return true;
}

bool finds_modules_early() { return true; }

// It allocates by a malloc of its own.
Module loader_module() { return {g_places, 0, 0, nullptr}; }

bool module_name(const Module& module, char* name, size_t capacity) {
  const Known& known = known_of(module);
  if (known.is_program) {
    program_name(name, capacity);
  } else {
    library_name(module, known.dynamic, known.bias, known.path, name, capacity);
  }
  return known.is_program;
}

const char* module_path(const Module& module) {
  if (module.start == vdso_image()) return "[vdso]";
  const Known& known = known_of(module);
  return known.is_program || known.path == nullptr ? "" : known.path;
}

uintptr_t module_bias(const Module& module) { return known_of(module).bias; }

// The kernel puts the program's name above all else.
uintptr_t main_stack_top() { return getauxval(AT_EXECFN); }

// It takes such a lock too, but nobody else can: a fork may wait for ever for a thread in
// fflush(nullptr), that for one in getline, and that for us.
void hold_streams() {}
void let_go_of_streams() {}
void reset_streams() {}

bool has_libc() { return false; }
void* libc_aligned(size_t /*alignment*/, size_t /*bytes*/) { return nullptr; }
size_t libc_held_bytes() { return 0; }

const char* error_text(int error) { return strerror(error); }

}  // namespace tally::core::os
