// A library for tests to load and unload: built twice, with names of one length and frames of two,
// so that the second may come to lie just where the first did, each function too.
#define TALLY_JOIN(a, b) a##b
#define TALLY_NAMED(a, b) TALLY_JOIN(a, b)

namespace {
volatile int g_after = 0;
}

extern "C" {

// The name that differs.
void TALLY_NAMED(plugin_, TALLY_PLUGIN)() { g_after = g_after + 1; }

__attribute__((noinline)) void plugin_call(void (*call)(void*), void* argument) {
  volatile char frame[TALLY_PLUGIN_FRAME];
  frame[0] = 1;
  call(argument);
  g_after = g_after + frame[0];  // so that it is no jump
}
}
