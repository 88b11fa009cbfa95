/* The program's handler of SIGABRT allocates, as crash reporters do. */
#include <signal.h>

#include "misuse.h"

static void handler(int signal) {
  (void)signal;
  for (int i = 0; i < 2000; i++) free(malloc(16 + (size_t)i * 8));
  tally_tag_create("/handler");
}

int main(void) {
  tally_tag tag = misuse_tag();
  signal(SIGABRT, handler);
  void* others[50];
  for (int i = 0; i < 50; i++) others[i] = tally_malloc(tag, 64);
  void* p = tally_malloc(tag, 64);
  EXPECT("tally: double free of %p (tag /x, size class %zu)\n", p, class_of(64));
  free(p);
  free(opaque_pointer(p));
  for (int i = 0; i < 50; i++) free(others[i]);
  drive(tag, 64);
  finish(tag);
  return 0;
}
