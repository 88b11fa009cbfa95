/* No message: nobody may access what lies behind a slab or a large block, nor where a slab was. Who
 * does is ended by that. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (size_t size = page; size < 8000000; size *= 3) {
    char* p = tally_malloc(tag, 20 * size);
    const size_t end = (20 * size + page - 1) / page * page;
    CHECK(ends_by(p + 20 * size - 1) == 0);
    CHECK(ends_by((char*)opaque_pointer(p) + end) == SIGSEGV);
    free(p);
  }
  /* A slab of such blocks takes 64 KiB. */
  enum { kSlab = 65536, kBlocks = 3000 };
  static char* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, 64);
  char* last = (char*)(((uintptr_t)opaque_pointer(blocks[kBlocks / 2]) | (kSlab - 1)) + 1);
  CHECK(ends_by(last - page) == SIGSEGV);
  CHECK(ends_by(last - 1) == SIGSEGV);
  CHECK(ends_by(blocks[kBlocks / 2]) == 0);
  for (int i = 0; i < kBlocks; i++) free(blocks[i]);
  tally_trim();
  CHECK(ends_by(opaque_pointer(blocks[kBlocks / 2])) == SIGSEGV);
  finish(tag);
  return 0;
}
