// vdso.h for Linux. libc knows the same function, but by a name that other preload libraries
// interpose.
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include <atomic>

#include "os/vdso.h"

namespace tally::core::os {
namespace {

#if defined(__x86_64__)
constexpr char kClockReader[] = "__vdso_clock_gettime";
#else
constexpr char kClockReader[] = "__kernel_clock_gettime";
#endif

// It is a shared object, mapped as it is in its file; its dynamic section has the addresses that it
// was linked at.
uintptr_t find(uintptr_t image) {
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(image);
  const auto* segment = reinterpret_cast<const ElfW(Phdr)*>(image + header->e_phoff);
  const ElfW(Dyn)* dynamic = nullptr;
  uintptr_t linked_at = 0;
  for (size_t i = 0; i < header->e_phnum; ++i, ++segment) {
    if (segment->p_type == PT_LOAD) linked_at = segment->p_vaddr - segment->p_offset;
    if (segment->p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const ElfW(Dyn)*>(image + segment->p_offset);
    }
  }
  if (dynamic == nullptr) return 0;
  const uintptr_t bias = image - linked_at;
  uintptr_t symbols = 0, names = 0;
  size_t bytes_of_names = 0;
  for (; dynamic->d_tag != DT_NULL; ++dynamic) {
    if (dynamic->d_tag == DT_SYMTAB) symbols = bias + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_STRTAB) names = bias + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_STRSZ) bytes_of_names = dynamic->d_un.d_val;
  }
  // The kernel's linker scripts have the names right behind the symbols, which are told of by no
  // number: there may be either kind of hash table.
  for (; symbols != 0 && symbols + sizeof(ElfW(Sym)) <= names; symbols += sizeof(ElfW(Sym))) {
    const auto& symbol = *reinterpret_cast<const ElfW(Sym)*>(symbols);
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_name + sizeof kClockReader > bytes_of_names) {
      continue;
    }
    const auto* name = reinterpret_cast<const char*>(names + symbol.st_name);
    if (memcmp(name, kClockReader, sizeof kClockReader) == 0) return bias + symbol.st_value;
  }
  return 0;
}

}  // namespace

uintptr_t vdso_image() {
  const int error = errno;  // getauxval says there what it does not find
  const uintptr_t image = getauxval(AT_SYSINFO_EHDR);
  errno = error;
  return image;
}

ClockReader clock_reader() {
  constexpr uintptr_t kUnknown = 1;
  static constinit std::atomic<uintptr_t> known{kUnknown};
  uintptr_t found = known.load(std::memory_order_relaxed);
  if (found == kUnknown) {
    const uintptr_t image = vdso_image();
    found = image == 0 ? 0 : find(image);
    known.store(found, std::memory_order_relaxed);
  }
  return reinterpret_cast<ClockReader>(found);
}

}  // namespace tally::core::os
