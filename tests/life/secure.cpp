// For secure_test.py: says whether the kernel calls this process secure (AT_SECURE), and allocates.
#include <sys/auxv.h>

#include "threads.hpp"

int main() {
  CHECK_LIVE();
  exercise(1);
  dprintf(1, "secure %d\n", getauxval(AT_SECURE) != 0);
  return 0;
}
