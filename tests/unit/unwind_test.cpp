#include "sample/unwind.h"

#include <alloca.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>

#include "base/math.h"
#include "sample/modules.h"
#include "unit.h"

namespace tally::unit {
namespace {

using core::StackFrame;
using core::unwind;
namespace modules = core::modules;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

#define TALLY_TEST_NOINLINE __attribute__((noinline, noclone))
// Keeps a call from becoming a jump.
#define TALLY_TEST_AFTER_CALL() asm volatile("" ::: "memory")

constexpr size_t kMost = 128;

struct Stack {
  StackFrame frames[kMost];
  size_t count = 0;
  uintptr_t expected[kMost];  // libgcc's
  size_t expected_count = 0;

  uintptr_t operator[](size_t i) const { return i < count ? frames[i].address : 0; }
  const char* module(size_t i) const {
    return i < count && frames[i].module < modules::count() ? modules::at(frames[i].module).path
                                                            : "";
  }
};

_Unwind_Reason_Code note_expected(_Unwind_Context* context, void* stack_as_void) {
  auto* stack = static_cast<Stack*>(stack_as_void);
  int is_before = 0;
  uintptr_t address = _Unwind_GetIPInfo(context, &is_before);
  if (address == 0 || stack->expected_count == kMost) return _URC_END_OF_STACK;
  stack->expected[stack->expected_count++] = address + static_cast<uintptr_t>(is_before);
  return _URC_NO_REASON;
}

// Both walks, from the caller on.
TALLY_TEST_NOINLINE void take(Stack* stack) {
  stack->count = unwind(stack->frames, kMost);
  stack->expected_count = 0;
  _Unwind_Backtrace(note_expected, stack);
  TALLY_TEST_AFTER_CALL();
}

// The first is `take` itself, at two of its calls.
void expect_as_libgcc(const Stack& stack) {
  EXPECT_EQ(stack.count, stack.expected_count);
  for (size_t i = 1; i < std::min(stack.count, stack.expected_count); ++i) {
    ASSERT_EQ(stack.frames[i].address, stack.expected[i]) << "frame " << i;
  }
}

bool is_in_program(const Stack& stack, size_t i) {
  uint32_t module = stack.frames[i].module;
  return module < modules::count() && modules::at(module).is_program != 0;
}

// Where the linker is told to put it: elsewhere than the rest (see CMakeLists.txt).
__attribute__((section("tally_far"), used)) int g_far = 1;

TEST(Unwind, TheProgramIsOneModule) {
  core::os::Module one, other;
  ASSERT_TRUE(core::os::find_module(&g_far, &one));
  ASSERT_TRUE(core::os::find_module(reinterpret_cast<const void*>(&note_expected), &other));
  EXPECT_EQ(one.start, other.start);
  EXPECT_EQ(one.end, other.end);
  const modules::Entry& entry = modules::at(modules::index_of(one));
  EXPECT_EQ(entry.is_program, 1U);
  EXPECT_EQ(entry.build_id_bytes, 20U);
}

// ---- A chain of functions, each of which notes where it will go on.

constexpr int kChain = 6;
uintptr_t g_returns[kChain];

void note_return(int depth, void* address) {
  g_returns[depth] = reinterpret_cast<uintptr_t>(address);
}

template <int depth>
TALLY_TEST_NOINLINE void chain(Stack* stack) {
  note_return(depth, __builtin_return_address(0));
  if constexpr (depth == 0) {
    take(stack);
  } else {
    chain<depth - 1>(stack);
  }
  TALLY_TEST_AFTER_CALL();
}

template <int depth>
__attribute__((optimize("omit-frame-pointer"))) TALLY_TEST_NOINLINE void chain_without(Stack* stack,
                                                                                       int n) {
  note_return(depth, __builtin_return_address(0));
  volatile char more[100 + depth * 200];
  more[0] = static_cast<char>(n);
  if constexpr (depth == 0) {
    take(stack);
  } else {
    chain_without<depth - 1>(stack, n + more[0]);
  }
  TALLY_TEST_AFTER_CALL();
}

template <int depth>
__attribute__((optimize("no-omit-frame-pointer"))) TALLY_TEST_NOINLINE void chain_with(Stack* stack,
                                                                                       int n) {
  note_return(depth, __builtin_return_address(0));
  auto* more = static_cast<volatile char*>(alloca(static_cast<size_t>(n * 100 + 16)));
  more[0] = 1;
  if constexpr (depth == 0) {
    take(stack);
  } else {
    chain_with<depth - 1>(stack, n + more[0]);
  }
  TALLY_TEST_AFTER_CALL();
}

// Locals more aligned than the stack, and of variable length: the CFA is kept in memory.
template <int depth>
TALLY_TEST_NOINLINE void chain_realigned(Stack* stack, int n) {
  note_return(depth, __builtin_return_address(0));
  alignas(64) volatile char aligned[64 * (depth + 1)];
  auto* more = static_cast<volatile char*>(alloca(static_cast<size_t>(n * 100 + 16)));
  aligned[0] = 1;
  more[0] = 1;
  if constexpr (depth == 0) {
    take(stack);
  } else {
    chain_realigned<depth - 1>(stack, n + aligned[0] + more[0]);
  }
  TALLY_TEST_AFTER_CALL();
}

// frames[0] is in chain<0>... after take: the functions' own return addresses follow.
void expect_chain(const Stack& stack) {
  for (int i = 0; i < kChain; ++i) {
    EXPECT_EQ(stack[static_cast<size_t>(i) + 2], g_returns[i]) << i;
  }
  expect_as_libgcc(stack);
}

TEST(Unwind, FindsEachReturnAddress) {
  Stack stack;
  chain<kChain - 1>(&stack);
  expect_chain(stack);
}

TEST(Unwind, WithFramePointersAndWithout) {
  Stack stack;
  chain_without<kChain - 1>(&stack, 3);
  expect_chain(stack);
  chain_with<kChain - 1>(&stack, 3);
  expect_chain(stack);
  chain_realigned<kChain - 1>(&stack, 3);
  expect_chain(stack);
}

TEST(Unwind, EndsWhereTheProgramBegan) {
  Stack stack;
  chain<kChain - 1>(&stack);
  ASSERT_GT(stack.count, 8U);
  EXPECT_TRUE(is_in_program(stack, stack.count - 1)) << "_start";
  EXPECT_NE(std::string(stack.module(stack.count - 2)).find("libc.so"), std::string::npos);
}

TEST(Unwind, AtMostSoMany) {
  Stack stack;
  chain<kChain - 1>(&stack);
  StackFrame few[4] = {};
  few[3].address = 7;
  EXPECT_EQ(unwind(few, 0), 0U);
  EXPECT_EQ(few[0].address, 0U);
  EXPECT_EQ(unwind(few, 3), 3U);
  EXPECT_EQ(few[3].address, 7U);
  StackFrame all[kMost];
  EXPECT_GT(unwind(all, kMost), 3U);
  EXPECT_EQ(few[1].address, all[1].address);
  EXPECT_EQ(few[2].address, all[2].address);
}

TALLY_TEST_NOINLINE void recurse(int n, Stack* stack) {
  if (n == 0) {
    take(stack);
  } else {
    recurse(n - 1, stack);
  }
  TALLY_TEST_AFTER_CALL();
}

TEST(Unwind, OfADeepStackTheInnermost) {
  Stack stack;
  recurse(20000, &stack);
  EXPECT_EQ(stack.count, kMost);
  expect_as_libgcc(stack);
}

Stack* g_stack = nullptr;

TALLY_TEST_NOINLINE int compare_and_take(const void* a, const void* b) {
  take(g_stack);
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}

TEST(Unwind, ThroughACallbackOfLibc) {
  Stack stack;
  g_stack = &stack;
  int numbers[] = {3, 1, 2};
  qsort(numbers, 3, sizeof *numbers, compare_and_take);
  expect_as_libgcc(stack);
  EXPECT_TRUE(is_in_program(stack, 0));
  EXPECT_TRUE(is_in_program(stack, 1) || kSanitized);
  bool has_libc = false;
  for (size_t i = 0; i < stack.count; ++i) {
    has_libc = has_libc || std::string(stack.module(i)).find("libc.so") != std::string::npos;
  }
  EXPECT_TRUE(has_libc);
}

TALLY_TEST_NOINLINE void call_library(size_t (*library_unwind)(StackFrame*, size_t), Stack* stack) {
  stack->count = library_unwind(stack->frames, 3);
  TALLY_TEST_AFTER_CALL();
}

TEST(Unwind, ALibraryLeavesItselfOut) {
  void* library = dlopen(TALLY_LIBRARY, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  Stack stack;
  call_library(reinterpret_cast<size_t (*)(StackFrame*, size_t)>(dlsym(library, "library_unwind")),
               &stack);
  ASSERT_EQ(stack.count, 3U);
  core::os::Module program;
  ASSERT_TRUE(core::os::find_module(reinterpret_cast<const void*>(&note_expected), &program));
  const auto start = reinterpret_cast<uintptr_t>(&call_library);
  EXPECT_GT(stack[0], start);
  EXPECT_LT(stack[0], start + 200) << "its caller";
  EXPECT_TRUE(program.contains(reinterpret_cast<const void*>(stack[1])));
}

TEST(Unwind, ToTheStartOfAThread) {
  Stack stack;
  on_thread([&] { chain<kChain - 1>(&stack); });
  expect_chain(stack);
  // Again from deeper and less deep, as something is known of the stack now.
  on_thread([&] {
    for (int depth : {3, 100, 50, 1, 2000, 3}) {
      recurse(depth, &stack);
      expect_as_libgcc(stack);
    }
  });
}

// ---- Signals.

void take_in_handler(int) { take(g_stack); }

void handle(int signal, int flags) {
  struct sigaction action = {};
  action.sa_handler = take_in_handler;
  action.sa_flags = flags;
  ASSERT_EQ(sigaction(signal, &action, nullptr), 0);
}

#if defined(__x86_64__)
extern "C" const char tally_test_interrupted[];

// A leaf, which keeps something below its stack pointer.
TALLY_TEST_NOINLINE int be_interrupted(int n) {
  volatile int kept[4] = {n, n, n, n};
  asm volatile("int3\n .globl tally_test_interrupted\n tally_test_interrupted:" ::: "memory");
  return kept[n & 3];
}

TALLY_TEST_NOINLINE void call_interrupted(Stack* stack) {
  g_stack = stack;
  EXPECT_EQ(be_interrupted(3), 3);
  TALLY_TEST_AFTER_CALL();
}

void expect_interrupted(const Stack& stack) {
  expect_as_libgcc(stack);
  auto where = reinterpret_cast<uintptr_t>(tally_test_interrupted) + 1;
  size_t at = 0;
  while (at < stack.count && stack[at] != where) ++at;
  ASSERT_LT(at, stack.count) << "who was interrupted is not there";
  EXPECT_GE(at, 2U);
  EXPECT_GT(stack.count, at + 4) << "nor who called it";
}

TEST(Unwind, ThroughASignalHandler) {
  Stack stack;
  handle(SIGTRAP, 0);
  call_interrupted(&stack);
  expect_interrupted(stack);
}

TEST(Unwind, ThroughASignalHandlerOnAnotherStack) {
  Stack stack;
  static char memory[64 * 1024];
  stack_t other = {};
  other.ss_sp = memory;
  other.ss_size = sizeof memory;
  handle(SIGTRAP, SA_ONSTACK);
  on_thread([&] {
    ASSERT_EQ(sigaltstack(&other, nullptr), 0);
    call_interrupted(&stack);
    stack_t none = {};
    none.ss_flags = SS_DISABLE;
    sigaltstack(&none, nullptr);
  });
  expect_interrupted(stack);
}
#endif

TEST(Unwind, ThroughRaise) {
  Stack stack;
  g_stack = &stack;
  handle(SIGUSR1, 0);
  raise(SIGUSR1);
  expect_as_libgcc(stack);
  EXPECT_GT(stack.count, 5U);
}

// ---- Stacks of the program's own.

// Memory between two pages that cannot be read.
class Guarded {
 public:
  explicit Guarded(size_t bytes, int protection = PROT_READ | PROT_WRITE) : bytes_(bytes) {
    memory_ = static_cast<char*>(
        mmap(nullptr, bytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(start(), bytes, protection);
  }
  ~Guarded() { munmap(memory_, bytes_ + 2 * kPage); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  char* start() const { return memory_ + kPage; }
  char* end() const { return start() + bytes_; }

 private:
  static constexpr size_t kPage = 4096;
  size_t bytes_;
  char* memory_;
};

ucontext_t g_main_context, g_other_context;

void run_on(const Guarded& memory, void (*body)()) {
  getcontext(&g_other_context);
  g_other_context.uc_stack.ss_sp = memory.start();
  g_other_context.uc_stack.ss_size = static_cast<size_t>(memory.end() - memory.start());
  g_other_context.uc_link = &g_main_context;
  makecontext(&g_other_context, body, 0);
  swapcontext(&g_main_context, &g_other_context);
}

void run_chain() { chain<kChain - 1>(g_stack); }

TEST(Unwind, OnAStackOfMakecontext) {
  if (kSanitized) GTEST_SKIP() << "sanitizers must be told of other stacks";
  static Stack stack;
  g_stack = &stack;
  // Twice, as something may be known of the thread's own by then.
  for (int round = 0; round < 2; ++round) {
    Guarded memory(64 * 1024);
    run_on(memory, run_chain);
    expect_chain(stack);
    EXPECT_LT(stack.count, 12U) << "the context is where it ends";
  }
}

// ---- Code without tables.

#if defined(__x86_64__)
// void code(void (*call)(Stack*), Stack*, rbp): with a chain of frame pointers, or with `rbp` in
// that register while it calls.
class Compiled {
 public:
  explicit Compiled(bool keeps_chain) : memory_(4096) {
    static const uint8_t with[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0xf8,
                                   0x48, 0x89, 0xf7, 0xff, 0xd0, 0x5d, 0xc3};
    static const uint8_t without[] = {0x55, 0x48, 0x89, 0xd5, 0x48, 0x89, 0xf8,
                                      0x48, 0x89, 0xf7, 0xff, 0xd0, 0x5d, 0xc3};
    static_assert(sizeof with == sizeof without);
    memcpy(memory_.start(), keeps_chain ? with : without, sizeof with);
    mprotect(memory_.start(), 4096, PROT_READ | PROT_EXEC);
  }
  void run(void (*call)(Stack*), Stack* stack, uintptr_t rbp) const {
    auto* code = reinterpret_cast<void (*)(void (*)(Stack*), Stack*, uintptr_t)>(memory_.start());
    code(call, stack, rbp);
    TALLY_TEST_AFTER_CALL();
  }
  uintptr_t after_call() const { return core::address(memory_.start() + 12); }

 private:
  Guarded memory_;
};

TALLY_TEST_NOINLINE void take_here(Stack* stack) {
  stack->count = unwind(stack->frames, kMost);
  TALLY_TEST_AFTER_CALL();
}

TEST(Unwind, ThroughCodeThatKeepsFramePointers) {
  Stack stack;
  Compiled code(true);
  code.run(take_here, &stack, 0);
  ASSERT_GT(stack.count, 6U);
  EXPECT_EQ(stack[1], code.after_call());
  EXPECT_EQ(stack.frames[1].module, modules::kNone);
  EXPECT_TRUE(is_in_program(stack, 2));
  EXPECT_TRUE(is_in_program(stack, stack.count - 1)) << "up to _start";
}

TEST(Unwind, NonsenseInTheFramePointerIsNotFollowed) {
  Compiled code(false);
  Guarded memory(4096);
  Random random(3);
  const auto try_with = [&](uintptr_t rbp) {
    Stack stack;
    code.run(take_here, &stack, rbp);
    EXPECT_EQ(stack[1], code.after_call());
    return stack.count;
  };
  const auto try_all = [&] {
    const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    for (uintptr_t rbp : {uintptr_t{0}, uintptr_t{1}, uintptr_t{8}, ~uintptr_t{0}, ~uintptr_t{7},
                          core::address(memory.start()), core::address(memory.end()),
                          core::address(memory.end()) - 8, uintptr_t{0xffff800000000000},
                          here - 4096, here + 1, here + 3}) {
      EXPECT_EQ(try_with(rbp), 2U) << std::hex << rbp;
    }
    for (int i = 0; i < 20000; ++i) try_with(here + random.below(64 * 1024) / 8 * 8);
    for (int i = 0; i < 2000; ++i) try_with(here + random.below(2 * 1024 * 1024) / 8 * 8);
    for (int i = 0; i < 2000; ++i) try_with(here + random.below(16 * 1024));
  };
  try_all();
  on_thread(try_all);
}

TEST(Unwind, NonsenseOnAnotherStackLeadsNotOffIt) {
  if (kSanitized) GTEST_SKIP() << "sanitizers must be told of other stacks";
  static Compiled code(false);
  static Guarded memory(16 * 1024);
  run_on(memory, [] {
    Stack stack;
    for (uintptr_t rbp = core::address(memory.start()); rbp <= core::address(memory.end()) + 64;
         rbp += 8) {
      code.run(take_here, &stack, rbp);
    }
  });
}
#endif

// ---- Where it may run.

TEST(Unwind, NothingIsAllocated) {
  if (kSanitized) GTEST_SKIP() << "their malloc does not count";
  Stack stack;
  struct mallinfo2 before = mallinfo2();
  StackFrame frames[kMost];
  for (int i = 0; i < 100; ++i) unwind(frames, kMost);
  struct mallinfo2 after = mallinfo2();
  EXPECT_EQ(after.uordblks, before.uordblks);
  EXPECT_EQ(after.fordblks, before.fordblks);
  EXPECT_EQ(after.hblkhd, before.hblkhd);
}

TEST(Unwind, InAForkedChild) {
  Stack stack;
  chain<kChain - 1>(&stack);
  std::atomic<bool> is_over{false};
  std::thread other([&] {
    Stack its;
    while (!is_over) its.count = unwind(its.frames, kMost);
  });
  for (int i = 0; i < 20; ++i) {
    pid_t child = fork();
    if (child == 0) {
      Stack in_child;
      in_child.count = unwind(in_child.frames, kMost);
      _exit(in_child.count > 4 && is_in_program(in_child, in_child.count - 1) ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  is_over = true;
  other.join();
}

using PluginCall = void (*)(void (*)(void*), void*);

TEST(Unwind, WhileLibrariesComeAndGo) {
  std::atomic<bool> is_over{false};
  const auto walk_through = [](const char* path) {
    void* library = dlopen(path, RTLD_NOW);
    auto call = reinterpret_cast<PluginCall>(dlsym(library, "plugin_call"));
    Stack stack;
    call([](void* taken) { take(static_cast<Stack*>(taken)); }, &stack);
    expect_as_libgcc(stack);
    bool is_seen = false;
    for (size_t i = 0; i < stack.count; ++i) is_seen |= strcmp(stack.module(i), path) == 0;
    EXPECT_TRUE(is_seen) << path;
    dlclose(library);
  };
  std::vector<std::thread> walkers;
  for (int i = 0; i < 4; ++i) {
    walkers.emplace_back([&] {
      Stack stack;
      while (!is_over) {
        recurse(10, &stack);
        expect_as_libgcc(stack);
      }
    });
  }
  for (int i = 0; i < 100; ++i) walk_through(i % 2 == 0 ? TALLY_PLUGIN_A : TALLY_PLUGIN_B);
  is_over = true;
  for (std::thread& walker : walkers) walker.join();
  EXPECT_LT(modules::count(), 40U) << "what comes again is known";
}

}  // namespace
}  // namespace tally::unit
