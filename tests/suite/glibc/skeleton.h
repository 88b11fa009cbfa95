// glibc's older way to write a test: TEST_FUNCTION, PREPARE and the like are expressions rather
// than names. Then as driver.h.
#pragma once

#include <assert.h>
#include <malloc.h>
#include <paths.h>
#include <search.h>
#include <sys/param.h>

#include "shim.h"

static int old_test_function(int argc __attribute__((unused)),
                             char** argv __attribute__((unused))) {
#ifdef TEST_FUNCTION
  return TEST_FUNCTION;
#undef TEST_FUNCTION
#else
  return do_test(argc, argv);
#endif
}
#define TEST_FUNCTION_ARGV old_test_function

#ifdef PREPARE
static void old_prepare(int argc __attribute__((unused)), char** argv __attribute__((unused))) {
  PREPARE(argc, argv);
}
#undef PREPARE
#define PREPARE old_prepare
#endif

#ifdef CLEANUP_HANDLER
static void old_cleanup(void) { CLEANUP_HANDLER; }
#undef CLEANUP_HANDLER
#define CLEANUP_HANDLER old_cleanup
#endif

#ifdef CMDLINE_PROCESS
static void old_option(int c) {
  switch (c) { CMDLINE_PROCESS }
}
#undef CMDLINE_PROCESS
#define CMDLINE_PROCESS old_option
#endif

#include "driver.h"
