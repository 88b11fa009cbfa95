/* Does nothing worth a word, in several processes if asked: what stands on standard error is about
 * the options. */
#include <sys/wait.h>

#include "check.h"

int main(int argc, char** argv) {
  CHECK_LIVE();
  for (int i = 0; i < 1000; i++) free(malloc(i * 10));
  if (argc > 1 && strcmp(argv[1], "fork") == 0) {
    for (int i = 0; i < 3; i++) {
      if (fork() == 0) {
        free(malloc(100000));
        exit(0);
      }
      CHECK(wait(NULL) > 0);
    }
  }
  return 0;
}
