/* A small block freed again after others were taken and freed. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  void* others[50];
  for (int i = 0; i < 50; i++) others[i] = tally_malloc(tag, 64);
  void* p = tally_malloc(tag, 64);
  EXPECT("tally: double free of %p (tag /x, size class %zu)\n", p, class_of(64));
  free(p);
  for (int i = 0; i < 25; i++) free(others[i]);
  free(opaque_pointer(p));
  for (int i = 25; i < 50; i++) free(others[i]);
  drive(tag, 64);
  finish(tag);
  return 0;
}
