// main of the GoogleTest programs: a test that ran on the C library's malloc, or another backend,
// by mistake proves nothing.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "tally_test.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  char* from_new = new char;
  const bool live = tally_is_live() && tally_tag_of(from_new) != TALLY_TAG_NONE;
  delete from_new;
  if (!live) {
    std::fprintf(stderr, "malloc or operator new is not Tally's here\n");
    return 1;
  }
  tally_snapshot_t* snapshot = tally_snapshot();
  if (std::strcmp(snapshot->backend, backend_name()) != 0) {
    std::fprintf(stderr, "the backend is %s\n", snapshot->backend);
    return 1;
  }
  tally_snapshot_free(snapshot);
  return RUN_ALL_TESTS();
}
