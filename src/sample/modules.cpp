#include "sample/modules.h"

#include <elf.h>
#include <link.h>
#include <string.h>

#include <atomic>

#include "base/math.h"
#include "memory/meta.h"
#include "os/os.h"

namespace tally::core::modules {
namespace {

// Filled in order, each once.
constinit std::atomic<const Entry*> g_entries[kMost] = {};
// By hash of the address: the index and 1 of what is to be found there, most likely.
constexpr size_t kHints = 4096;
constinit std::atomic<uint16_t> g_hints[kHints] = {};
static_assert(kMost < UINT16_MAX);

// Every module has that much mapped at its start, and most linkers put headers and notes there.
constexpr size_t kFirstPage = 4096;

uint64_t mix(uint64_t a, uint64_t b) {
  a = (a ^ b) * 0x9e3779b97f4a7c15;
  return a ^ a >> 32;
}

// Of what differs between files that the linker maps at one place: the length of the file, and what
// its functions are.
uint64_t fingerprint_of(const os::Module& module) {
  ElfW(Ehdr) head;
  memcpy(&head, reinterpret_cast<const void*>(module.start), sizeof head);
  uint64_t print = mix(head.e_shoff, head.e_entry);
  const uintptr_t table = address(module.unwinding);
  uint64_t words[3];
  if (table >= module.start && table < module.end && module.end - table >= sizeof words) {
    memcpy(words, module.unwinding, sizeof words);
    for (uint64_t word : words) print = mix(print, word);
  }
  return print;
}

bool is_same(const Entry& entry, const os::Module& module, uint64_t fingerprint) {
  if (entry.start != module.start || entry.end != module.end ||
      entry.unwinding != module.unwinding || entry.fingerprint != fingerprint) {
    return false;
  }
  if (entry.id_to_read != nullptr) {
    return memcmp(entry.id_to_read, entry.build_id, entry.build_id_bytes) == 0;
  }
  const char* path = os::module_path(module);
  return *path == 0 || entry.is_program != 0 || strcmp(path, entry.path) == 0;
}

// The notes at [at, end).
void take_build_id(uintptr_t at, uintptr_t end, Entry* entry) {
  ElfW(Nhdr) note;
  while (end - at >= sizeof note) {
    memcpy(&note, reinterpret_cast<const void*>(at), sizeof note);
    const size_t name_bytes = round_up(size_t{note.n_namesz}, 4);
    const size_t bytes = round_up(size_t{note.n_descsz}, 4);
    at += sizeof note;
    if (name_bytes > end - at || bytes > end - at - name_bytes) return;
    const auto* name = reinterpret_cast<const char*>(at);
    const auto* content = reinterpret_cast<const uint8_t*>(at + name_bytes);
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof "GNU" &&
        memcmp(name, "GNU", sizeof "GNU") == 0) {
      entry->build_id_bytes = static_cast<uint32_t>(min_of(note.n_descsz, sizeof entry->build_id));
      memcpy(entry->build_id, content, entry->build_id_bytes);
      const bool is_on_first_page = address(content) + bytes <= entry->start + kFirstPage;
      if (is_on_first_page && entry->build_id_bytes != 0) entry->id_to_read = content;
      return;
    }
    at += name_bytes + bytes;
  }
}

// By the program headers in memory, as far as they say what is there.
void find_build_id(Entry* entry) {
  const uintptr_t start = entry->start;
  ElfW(Ehdr) head;
  memcpy(&head, reinterpret_cast<const void*>(start), sizeof head);
  if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_phentsize != sizeof(ElfW(Phdr)) ||
      head.e_phoff > kFirstPage ||
      head.e_phnum > (kFirstPage - head.e_phoff) / sizeof(ElfW(Phdr))) {
    return;
  }
  const auto segment = [&](size_t i) {
    ElfW(Phdr) one;
    memcpy(&one, reinterpret_cast<const void*>(start + head.e_phoff + i * sizeof one), sizeof one);
    return one;
  };
  const auto is_mapped = [&](const ElfW(Phdr) & notes) {
    for (size_t i = 0; i < head.e_phnum; ++i) {
      const ElfW(Phdr) load = segment(i);
      const uint64_t inside = notes.p_vaddr - load.p_vaddr;
      if (load.p_type == PT_LOAD && (load.p_flags & PF_R) != 0 && inside < load.p_filesz &&
          notes.p_filesz <= load.p_filesz - inside) {
        return true;
      }
    }
    return false;
  };
  for (size_t i = 0; i < head.e_phnum && entry->build_id_bytes == 0; ++i) {
    const ElfW(Phdr) notes = segment(i);
    const uintptr_t at = entry->bias + notes.p_vaddr;
    if (notes.p_type == PT_NOTE && at >= start && at < entry->end &&
        notes.p_filesz <= entry->end - at && is_mapped(notes)) {
      take_build_id(at, at + notes.p_filesz, entry);
    }
  }
}

size_t bytes_of(size_t path_bytes) { return sizeof(Entry) + path_bytes + 1; }

Entry* make_at(const char* path, const os::Module& module, uint64_t fingerprint) {
  const size_t path_bytes = strlen(path);
  auto* entry = static_cast<Entry*>(meta::allocate(bytes_of(path_bytes)));
  if (entry == nullptr) return nullptr;
  entry->start = module.start;
  entry->end = module.end;
  entry->unwinding = module.unwinding;
  entry->fingerprint = fingerprint;
  entry->bias = os::module_bias(module);
  entry->path_bytes = static_cast<uint32_t>(path_bytes);
  memcpy(entry->path, path, path_bytes + 1);
  find_build_id(entry);
  return entry;
}

Entry* make(const os::Module& module, uint64_t fingerprint) {
  constexpr size_t kPathMost = 4096;
  // A signal handler that came in between must not wait for who it interrupted.
  if (meta::lock.held_by_me()) return nullptr;
  const char* path = os::module_path(module);
  if (*path != 0) return make_at(path, module, fingerprint);
  // The program's own. Not on the stack, which may be small, nor where another thread does the
  // same.
  auto* executable = static_cast<char*>(meta::allocate(kPathMost));
  if (executable == nullptr) return nullptr;
  os::program_path(executable, kPathMost);
  Entry* entry = make_at(executable, module, fingerprint);
  if (entry != nullptr) entry->is_program = 1;
  meta::release(executable, kPathMost);
  return entry;
}

// Where it is, or was put.
uint32_t find_or_add(const os::Module& module, uint64_t fingerprint) {
  Entry* mine = nullptr;
  uint32_t index = 0;
  for (; index < kMost; ++index) {
    const Entry* entry = g_entries[index].load(std::memory_order_acquire);
    if (entry == nullptr) {
      if (mine == nullptr) mine = make(module, fingerprint);
      if (mine == nullptr) return kNone;
      if (g_entries[index].compare_exchange_strong(entry, mine, std::memory_order_acq_rel)) {
        return index;
      }
    }
    if (is_same(*entry, module, fingerprint)) break;  // perhaps another thread's, just now
  }
  if (mine != nullptr) meta::release(mine, bytes_of(mine->path_bytes));
  return index < kMost ? index : kNone;
}

}  // namespace

uint32_t index_of(const os::Module& module) {
  const uint64_t fingerprint = fingerprint_of(module);
  const size_t hash = mix(module.start, module.end) % kHints;
  // Two places for each, so that two that are in use at once hardly ever drive each other out.
  std::atomic<uint16_t>* hints[2] = {&g_hints[hash], &g_hints[hash ^ 1]};
  for (const auto* hint : hints) {
    const uint16_t known = hint->load(std::memory_order_acquire);
    if (known == 0) continue;
    const Entry* entry = g_entries[known - 1].load(std::memory_order_acquire);
    if (is_same(*entry, module, fingerprint)) return known - 1U;
  }
  const uint32_t index = find_or_add(module, fingerprint);
  if (index == kNone) return kNone;
  const bool is_first_free = hints[0]->load(std::memory_order_relaxed) == 0;
  hints[is_first_free ? 0 : 1]->store(static_cast<uint16_t>(index + 1), std::memory_order_release);
  return index;
}

size_t count() {
  size_t n = 0;
  while (n < kMost && g_entries[n].load(std::memory_order_acquire) != nullptr) ++n;
  return n;
}

const Entry& at(size_t index) { return *g_entries[index].load(std::memory_order_acquire); }

}  // namespace tally::core::modules
