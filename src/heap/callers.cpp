#include "heap/callers.h"

#include <stdlib.h>
#include <string.h>

#include "heap/thread.h"
#include "memory/meta.h"
#include "os/libc.h"
#include "os/os.h"
#include "tag/rule.h"

namespace tally::core {

constinit std::atomic<uint64_t> module_loads{1};
constinit Callers no_callers = {};
constinit Heap by_caller = {};

Callers::Known& Callers::place_of(const void* module) {
  constexpr size_t kLookAt = 4;
  size_t first = address(module) * 0x9e3779b97f4a7c15 >> 32;
  for (size_t i = 0; i < kLookAt; ++i) {
    Known& known = modules[(first + i) % kModules];
    if (known.module == module || known.module == nullptr) return known;
  }
  return modules[first % kModules];
}

void Callers::clear() {
  memset(this, 0, sizeof *this);
  pages[0].number = kNoPage;  // as page 0 is one that somebody may ask for
}

void Callers::forget(const Heap* heap) {
  for (Page& page : pages) {
    if (page.heap == heap) page = {kNoPage, nullptr};
  }
  for (Known& known : modules) {
    if (known.heap == heap) known = {};
  }
}

namespace {

// Less than any descriptor of a module has: 80 pointers into its dynamic section, and the like.
// What the linker allocates for a thread's storage is most often shorter.
constexpr size_t kLeastDescriptor = 512;

constinit os::Module g_loader;       // const once it is known
constinit bool g_sees_loads = true;  // likewise

Callers* callers_of(Thread* thread) {
  if (thread->callers != &no_callers) return thread->callers;
  auto* callers = static_cast<Callers*>(meta::allocate_forever(sizeof(Callers)));
  if (callers != nullptr) thread->callers = callers;
  return callers;
}

Heap* heap_of_name(const RunningThread& running, NameOf kind, const char* name) {
  TagReader reader;
  Tag* tag;
  Heap* heap;
  do {
    tag = tag_of_name(kind, name);
    heap = running.heap_if_live(tag);
  } while (heap == nullptr && !tag->is_live());  // retired since
  return heap;
}

Heap* heap_of_module(const RunningThread& running, const os::Module& module) {
  char name[256];
  bool is_program = os::module_name(module, name, sizeof name);
  return heap_of_name(running, is_program ? NameOf::kProgram : NameOf::kLibrary, name);
}

}  // namespace

void start_by_module() { g_loader = os::loader_module(); }

// Ours asks; another one knows of nothing.
TALLY_FORWARDER void check_by_module() {
  void* volatile block = ::malloc(1);
  g_sees_loads = was_asked() && g_loader.id != nullptr;
  ::free(block);
  if (!g_sees_loads) module_loads.fetch_add(1, std::memory_order_release);  // what is known goes
}

Heap* known_heap_in_scope(const Thread* thread, const void* caller) {
  Heap* heap = thread->scope;
  if (heap == nullptr || thread->tag->fault() != nullptr || g_loader.contains(caller)) {
    return &empty_heap;
  }
  // The scope's own tag may have been retired; the next one up is for a slow step to find.
  return heap->tag.load(std::memory_order_relaxed)->is_live() ? heap : &empty_heap;
}

void note_caller(const void* caller, size_t n) {
  if (n < kLeastDescriptor || !g_loader.contains(caller)) return;
  module_loads.fetch_add(1, std::memory_order_release);
}

// Model: tests/model/callers_model.cpp.
Heap* find_callers_heap(const RunningThread& running, const void* caller) {
  // Before the module is looked for: what is found is from after that load.
  uint64_t loads = module_loads.load(std::memory_order_acquire);
  os::Module module;
  if (!os::find_module(caller, &module)) return running.heap_if_live(root_tag());
  Callers* callers = g_sees_loads ? callers_of(running.get()) : nullptr;
  if (callers == nullptr) return heap_of_module(running, module);
  if (callers->loads != loads) {
    callers->clear();
    callers->loads = loads;
  }
  Callers::Known& known = callers->place_of(module.id);
  if (known.module != module.id || !known.heap->tag.load(std::memory_order_relaxed)->is_live()) {
    Heap* heap = heap_of_module(running, module);
    if (heap == nullptr) return nullptr;
    known = {module.id, heap};
  }
  // Where failures were asked for none may be at hand; and the linker is to come here each time.
  bool may_know = known.heap->tag.load(std::memory_order_relaxed)->fault() == nullptr &&
                  !g_loader.contains(caller);
  uintptr_t number = Callers::page_of(caller);
  if (may_know) callers->pages[number % Callers::kPages] = {number, known.heap};
  return known.heap;
}

bool is_name_due(Thread* thread) {
  // A new thread gets its name soon, perhaps after its first blocks.
  constexpr uint32_t kAlways = 4, kOften = 64;
  uint64_t now = os::now_ms();
  uint32_t step = thread->name_steps++;
  if (step >= kAlways && step % (step < kOften ? 8 : 64) != 0 && now == thread->name_looked_ms) {
    return false;
  }
  thread->name_looked_ms = now;
  return true;
}

Heap* find_renamed_heap(const RunningThread& running) {
  Thread* thread = running.get();
  char name[os::kThreadNameBytes];
  os::thread_name(name);
  if (thread->has_name && memcmp(name, thread->name, sizeof name) == 0) return nullptr;
  Heap* heap = heap_of_name(running, NameOf::kThread, name);
  thread->has_name = heap != nullptr;
  memcpy(thread->name, name, sizeof name);
  return heap;
}

}  // namespace tally::core
