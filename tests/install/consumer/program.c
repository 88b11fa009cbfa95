/* program malloc|new|none VERSION: what of this program should be Tally's, and which. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>

static int check(int ok, const char* what) {
  if (!ok) fprintf(stderr, "not so: %s\n", what);
  return ok;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int is_here = strcmp(argv[1], "none") != 0;
  int ok = check(strcmp(tally_version(), is_here ? argv[2] : "") == 0, "version");

  tally_tag tag = tally_tag_create("consumer");
  ok &= check(tally_tag_push(tag) == 0, "push");
  char* volatile text = strdup("under the tag, by libc's own malloc");
  ok &= check(tally_tag_of(text) == (strcmp(argv[1], "malloc") == 0 ? tag : TALLY_TAG_NONE),
              "the tag of what malloc gave");
  free(text);
  void* block = tally_malloc(tag, 100);
  ok &= check(block != NULL, "tally_malloc");
  ok &= check(tally_tag_of(block) == (is_here ? tag : TALLY_TAG_NONE), "its tag");
  tally_free(block);
  ok &= check(tally_tag_pop() == 0, "pop");
  return ok ? 0 : 1;
}
