// libc.h for glibc. A block's header, two words before it, says its size and where it came from
// (malloc.c, "struct malloc_chunk"); headers are copied by the kernel, so that a wild pointer is
// not followed.
#include "os/libc.h"

#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

#include <atomic>

#include "base/math.h"
#include "os/library_name.h"
#include "os/os.h"
#include "os/vdso.h"

#if !__GLIBC_PREREQ(2, 35)
#error "Tally needs glibc 2.35 or later (for _dl_find_object), or musl"
#endif

extern "C" {
// Exported by every glibc; weak, so that other C libraries link.
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) void __libc_free(void*);
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) void* __libc_realloc(void*, size_t);
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) void* __libc_memalign(size_t, size_t);
__attribute__((weak)) extern void* __curbrk;
// Exported by the dynamic linker.
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) extern void* __libc_stack_end;
// The lock of the list of streams, which a thread may take several times over.
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) void _IO_list_lock();
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) void _IO_list_unlock();
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) void _IO_list_resetlock();
// NOLINTNEXTLINE(readability-identifier-naming)
__attribute__((weak)) extern char __libc_single_threaded;
}

namespace tally::core::os {
namespace {

struct Header {
  size_t previous;
  size_t size_and_flags;
};
constexpr size_t kMmapped = 2;
constexpr size_t kNonMainArena = 4;
constexpr size_t kFlags = 7;
// Arenas other than the main one consist of heaps aligned to this, each with its size in its third
// word.
constexpr size_t kHeapBytes = size_t{64} << 20;

bool in_module(const void* p) {
  dl_find_object found;
  return _dl_find_object(const_cast<void*>(p), &found) == 0;
}

bool header_of(const void* p, Header* header) {
  return (address(p) & 15) == 0 && address(p) >= 4096 &&
         read_memory(static_cast<const char*>(p) - sizeof *header, header, sizeof *header);
}

}  // namespace

bool libc_owns(const void* p) {
  Header header;
  if (__libc_free == nullptr || in_module(p) || !header_of(p, &header)) return false;
  size_t size = header.size_and_flags & ~kFlags;
  if (size < 32 || (size & 15) != 0 || size > PTRDIFF_MAX) return false;
  uintptr_t start = address(p) - sizeof header;
  if ((header.size_and_flags & kMmapped) != 0) {
    size_t page = page_size();
    return (header.size_and_flags & kNonMainArena) == 0 &&
           ((start - header.previous) & (page - 1)) == 0 &&
           ((header.previous + size) & (page - 1)) == 0;
  }
  Header after;
  if (!header_of(reinterpret_cast<const char*>(p) + size, &after)) return false;
  if ((after.size_and_flags & 1) == 0) return false;  // the block is free already
  if ((header.size_and_flags & kNonMainArena) != 0) {
    uintptr_t heap = start & ~(kHeapBytes - 1);
    size_t info[3];
    return read_memory(reinterpret_cast<void*>(heap), info, sizeof info) && info[0] != 0 &&
           info[2] <= kHeapBytes && start + size <= heap + info[2];
  }
  return &__curbrk != nullptr && start + size <= address(__curbrk) &&
         address(__curbrk) - start < (uintptr_t{1} << 40);
}

void libc_free(void* p) { __libc_free(p); }
void* libc_realloc(void* p, size_t bytes) { return __libc_realloc(p, bytes); }

size_t libc_usable_size(const void* p) {
  Header header;
  if (!header_of(p, &header)) return 0;
  size_t size = header.size_and_flags & ~kFlags;
  return size - ((header.size_and_flags & kMmapped) != 0 ? 2 : 1) * sizeof(size_t);
}

namespace {

// Of the program, which the kernel has mapped; written once, if by several.
constinit std::atomic<uintptr_t> g_program_start{0}, g_program_end{0};

void find_program() {
  const auto* segment = reinterpret_cast<const ElfW(Phdr)*>(getauxval(AT_PHDR));
  uintptr_t bias = 0, start = UINTPTR_MAX, end = 0;
  for (size_t i = 0; i < getauxval(AT_PHNUM); ++i) {
    const ElfW(Phdr)& one = segment[i];
    if (one.p_type == PT_PHDR) bias = core::address(segment) - one.p_vaddr;
    if (one.p_type != PT_LOAD) continue;
    start = min_of(start, one.p_vaddr & ~(page_size() - 1));
    end = max_of(end, one.p_vaddr + one.p_memsz);
  }
  g_program_end.store(bias + end, std::memory_order_relaxed);
  g_program_start.store(bias + start, std::memory_order_release);
}

// Where the program's segments have gaps between them, the linker tells each for itself.
void widen_program(Module* module) {
  if (g_program_start.load(std::memory_order_acquire) == 0) find_program();
  const uintptr_t start = g_program_start.load(std::memory_order_acquire);
  const uintptr_t end = g_program_end.load(std::memory_order_relaxed);
  // Another, if the program is the dynamic linker, which was told to run this one.
  if (module->start < start || module->end > end) return;
  module->start = start;
  module->end = end;
}

}  // namespace

bool find_module(const void* address, Module* module) {
  dl_find_object found;
  if (_dl_find_object(const_cast<void*>(address), &found) != 0) return false;
  *module = {found.dlfo_link_map, core::address(found.dlfo_map_start),
             core::address(found.dlfo_map_end), found.dlfo_eh_frame};
  const char* path = found.dlfo_link_map->l_name;
  if (path == nullptr || *path == 0) widen_program(module);
  return true;
}

// A static program's libc allocates before it can tell; the kernel started no linker for it.
bool finds_modules_early() { return getauxval(AT_BASE) != 0; }

Module loader_module() {
  // The kernel tells where it is, unless it was started as the program; then this function of its
  // does, which in a static program is the program's.
  uintptr_t base = getauxval(AT_BASE);
  if (base == 0) base = reinterpret_cast<uintptr_t>(&_dl_find_object);
  Module module;
  find_module(reinterpret_cast<const void*>(base), &module);
  return module;
}

bool module_name(const Module& module, char* name, size_t capacity) {
  const auto* map = static_cast<const link_map*>(module.id);
  if (map->l_name == nullptr || *map->l_name == 0) {
    program_name(name, capacity);
    return true;
  }
  library_name(module, map->l_ld, map->l_addr, map->l_name, name, capacity);
  return false;
}

const char* module_path(const Module& module) {
  if (module.start == vdso_image()) return "[vdso]";
  const char* path = static_cast<const link_map*>(module.id)->l_name;
  return path == nullptr ? "" : path;
}

uintptr_t module_bias(const Module& module) {
  return static_cast<const link_map*>(module.id)->l_addr;
}

uintptr_t main_stack_top() {
  return &__libc_stack_end == nullptr ? 0 : core::address(__libc_stack_end);
}

namespace {

// The thread that holds the streams' lock for a fork; written by who holds it.
constinit std::atomic<void*> g_streams_holder{nullptr};

bool stop_holding_streams() {
  if (g_streams_holder.load(std::memory_order_relaxed) != __builtin_thread_pointer()) return false;
  g_streams_holder.store(nullptr, std::memory_order_relaxed);
  return true;
}

}  // namespace

void hold_streams() {
  if (&_IO_list_lock == nullptr || &__libc_single_threaded == nullptr) return;
  if (__libc_single_threaded != 0) return;
  _IO_list_lock();
  g_streams_holder.store(__builtin_thread_pointer(), std::memory_order_relaxed);
}

void let_go_of_streams() {
  if (stop_holding_streams()) _IO_list_unlock();
}

void reset_streams() {
  // libc's fork does so too, but only if it knew of more than one thread.
  if (stop_holding_streams()) _IO_list_resetlock();
}

namespace {
// Where Tally is malloc its own comes first.
constinit decltype(&mallinfo2) g_mallinfo2 = nullptr;
}  // namespace

bool has_libc() {
  g_mallinfo2 = reinterpret_cast<decltype(&mallinfo2)>(dlsym(RTLD_NEXT, "mallinfo2"));
  if (__libc_memalign == nullptr || __libc_free == nullptr) return false;
  // Sanitizers take the place of the former alone, whose blocks the latter does not know.
  dl_find_object taking, giving;
  return _dl_find_object(reinterpret_cast<void*>(&__libc_memalign), &taking) == 0 &&
         _dl_find_object(reinterpret_cast<void*>(&__libc_free), &giving) == 0 &&
         taking.dlfo_map_start == giving.dlfo_map_start;
}

void* libc_aligned(size_t alignment, size_t bytes) {
  return __libc_memalign == nullptr ? nullptr : __libc_memalign(alignment, bytes);
}

size_t libc_held_bytes() {
  if (g_mallinfo2 == nullptr) return 0;
  struct mallinfo2 info = g_mallinfo2();
  return info.arena + info.hblkhd;
}

const char* error_text(int error) {
  const char* text = strerrordesc_np(error);
  return text != nullptr ? text : "unknown error";
}

}  // namespace tally::core::os
