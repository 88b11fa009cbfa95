// What was known of a thread's stack must not outlive it: a second thread's stack ends where the
// first one's did, is shorter, and on a fibre below it runs code without unwind tables, whose frame
// pointer leads past the fibre's end, into memory that nobody may access. Run with TALLY_SAMPLE.
#include <sys/mman.h>

#include "threads.hpp"

#if defined(__x86_64__)

// jump(stack top, frame pointer, function): copied to where no module is, as a compiler at run time
// would write it.
extern "C" void jump(void* top, void* frame, void (*function)());
asm(R"(.text
jump:
  push %rbp
  push %rbx
  mov %rsp, %rbx
  mov %rdi, %rsp
  mov %rsi, %rbp
  push %rbx
  sub $8, %rsp
  call *%rdx
  add $8, %rsp
  pop %rbx
  mov %rbx, %rsp
  pop %rbx
  pop %rbp
  ret
)");

namespace {

constexpr size_t kStack = 8 << 20, kShort = 128 << 10, kFibre = 64 << 10;
char* memory;
char* code;

void allocate() {
  for (int i = 0; i < 200; ++i) free(malloc(100000));
}

__attribute__((noinline)) int deepen(int depth) {
  volatile char frame[60000];
  frame[0] = static_cast<char>(depth);
  if (depth == 0) allocate();
  return depth == 0 ? frame[0] : deepen(depth - 1) + frame[0];
}

void* run_deep(void*) {
  deepen(100);
  return nullptr;
}

void* run_fibre(void*) {
  char* end = memory + kStack / 2 + kFibre;
  auto call = reinterpret_cast<decltype(&jump)>(code);
  call(end - 64, end + 4096 + 64, allocate);
  return nullptr;
}

void run(void* (*body)(void*), char* stack, size_t bytes) {
  pthread_attr_t attributes;
  pthread_t thread;
  CHECK(pthread_attr_init(&attributes) == 0);
  CHECK(pthread_attr_setstack(&attributes, stack, bytes) == 0);
  CHECK(pthread_create(&thread, &attributes, body, nullptr) == 0);
  CHECK(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&attributes);
}

char* map(size_t bytes, int access) {
  void* p = mmap(nullptr, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(p != MAP_FAILED);
  return static_cast<char*>(p);
}

}  // namespace

int main() {
  CHECK(tally_is_live());
  memory = map(kStack, PROT_READ | PROT_WRITE);
  code = map(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
  memcpy(code, reinterpret_cast<void*>(jump), 64);
  run(run_deep, memory, kStack);
  CHECK(mprotect(memory, kStack - kShort, PROT_NONE) == 0);
  CHECK(mprotect(memory + kStack / 2, kFibre, PROT_READ | PROT_WRITE) == 0);
  run(run_fibre, memory + kStack - kShort, kShort);
}

#else

int main() { return 77; }

#endif
