// main of the GoogleTest programs: a test that ran on the C library's malloc by mistake proves
// nothing.
#include <gtest/gtest.h>

#include <cstdio>

#include "tally_test.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  char* from_new = new char;
  const bool live = tally_is_live() && tally_tag_of(from_new) == TALLY_TAG_ROOT;
  delete from_new;
  if (!live) {
    std::fprintf(stderr, "malloc or operator new is not Tally's here\n");
    return 1;
  }
  return RUN_ALL_TESTS();
}
