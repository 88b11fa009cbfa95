/* Writes to freed blocks with which the program ends in peace, as with libc: one that makes a ring
 * of two of them, and what unlinking from a list does to a neighbour that was freed and stayed in
 * it. */
#include "misuse.h"

struct link {
  struct link *next, *previous;
};
struct parent {
  long name[2];
  struct link children;
};

int main(void) {
  tally_tag tag = misuse_tag();
  struct link* a = tally_malloc(tag, 24);
  struct link* b = tally_malloc(tag, 24);
  tally_free(a);
  tally_free(b);
  ((struct link*)opaque_pointer(a))->next = b;

  struct parent* parent = tally_malloc(tag, sizeof *parent);
  struct link* children[2];
  parent->children.next = parent->children.previous = &parent->children;
  for (int i = 0; i < 2; i++) {
    struct link* child = children[i] = tally_malloc(tag, 32);
    child->next = &parent->children;
    child->previous = parent->children.previous;
    child->previous->next = child;
    parent->children.previous = child;
  }
  tally_free(children[0]);
  ((struct link*)opaque_pointer(children[0]))->next = &parent->children;
  parent->children.previous = NULL;
  dprintf(1, "finished\n");
  return 0;
}
