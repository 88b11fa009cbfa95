/* What the misuse programs share. A program writes to standard output the very line that it expects
 * on standard error, then misbehaves, then goes on working until Tally has had every occasion to
 * notice. misuse_test.py compares. */
#ifndef TALLY_TESTS_MISUSE_MISUSE_H
#define TALLY_TESTS_MISUSE_MISUSE_H

#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>

#include "check.h"

/* The line to expect; several calls: any one of these. */
#define EXPECT(...) dprintf(1, __VA_ARGS__)
/* The same, without its end: it is said as the process ends. */
#define EXPECT_AT_END(format, ...) \
  EXPECT(format ", as is seen at the end of the process\n", __VA_ARGS__)

static inline tally_tag misuse_tag(void) {
  CHECK_LIVE();
  tally_tag tag = tally_tag_create("/x");
  CHECK(tag != TALLY_TAG_NONE);
  return tag;
}

/* The signal that ends who writes there; 0: none does. */
static inline int ends_by(volatile char* p) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    *p = 'A';
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* Takes and gives back so many blocks of a class that every free list is taken over and every slab
 * empties. Their content is not touched: a block may have been handed out twice by now. */
static inline void drive(tally_tag tag, size_t size) {
  enum { kBlocks = 20000 };
  static void* blocks[kBlocks];
  int count = (32 << 20) / (int)size < kBlocks ? (32 << 20) / (int)size : kBlocks;
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < count; i++) blocks[i] = tally_malloc(tag, size);
    for (int i = 0; i < count; i++) tally_free(blocks[i]);
    tally_trim();
  }
}

/* Frees all blocks of some slabs, in no order of theirs; one of them. */
static inline char* freed_of_emptied(tally_tag tag, size_t size) {
  enum { kBlocks = 6007, kStep = 1000 }; /* a prime */
  static char* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = (char*)tally_malloc(tag, size);
  for (int i = 0; i < kBlocks; i++) tally_free(blocks[(long)i * kStep % kBlocks]);
  return blocks[kBlocks / 2];
}

/* After a report: Tally works on, for this tag and others. */
static inline void finish(tally_tag tag) {
  drive(tag, 200);
  drive(TALLY_TAG_ROOT, 64);
  void* p = malloc(1000);
  CHECK(p != NULL);
  memset(p, 1, 1000);
  free(p);
  dprintf(1, "finished\n");
}

#endif
