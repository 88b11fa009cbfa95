// Programs change the pages of their own blocks: protection, MADV_DONTNEED, MADV_DONTFORK. The
// blocks are theirs; an allocator that keeps data of its own in or beside them falls over.
#include <sys/mman.h>
#include <sys/wait.h>

#include "threads.hpp"

int main() {
  CHECK_LIVE();
  constexpr int kBlocks = 200;
  constexpr size_t kPage = 4096;
  const tally_tag tag = tally_tag_create("/pages");
  char* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) {
    blocks[i] = static_cast<char*>(tally_aligned_alloc(tag, kPage, kPage * (1 + i % 40)));
    CHECK(blocks[i] != nullptr);
    memset(blocks[i], i, kPage * (1 + i % 40));
  }
  for (int i = 0; i < kBlocks; i++) {
    const size_t size = kPage * (1 + i % 40);
    if (i % 4 == 0) CHECK(mprotect(blocks[i], size, PROT_NONE) == 0);
    if (i % 4 == 1) CHECK(mprotect(blocks[i], size, PROT_READ) == 0);
    if (i % 4 == 2) CHECK(madvise(blocks[i], size, MADV_DONTNEED) == 0);
    if (i % 4 == 3) CHECK(madvise(blocks[i], size, MADV_DONTFORK) == 0);
  }
  exercise(1);
  CHECK_OP(stats_of(tag).own.live_blocks, ==, kBlocks);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(20);
    exercise(2);
    void* more[100];
    for (void*& p : more) p = tally_malloc(tag, 5000);
    for (void* p : more) free(p);
    CHECK_OP(stats_of(tag).own.live_blocks, ==, kBlocks);
    _exit(0);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  for (int i = 0; i < kBlocks; i++) {
    const size_t size = kPage * (1 + i % 40);
    CHECK(mprotect(blocks[i], size, PROT_READ | PROT_WRITE) == 0);
    CHECK(blocks[i][0] == (i % 4 == 2 ? 0 : static_cast<char>(i)));
    CHECK(madvise(blocks[i], size, MADV_DOFORK) == 0);
    free(blocks[i]);
  }
  CHECK_OP(stats_of(tag).own.live_blocks, ==, 0);
  malloc_trim(0);
  exercise(3);
  return 0;
}
