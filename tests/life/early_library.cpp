// A library whose constructors run before those of a preloaded malloc: it is a dependency of the
// program, and libraries are initialised after what they depend on, the preloaded ones last.
#include "threads.hpp"

void* early_block;
void* early_thread_block;
int early_destructions;

namespace {

struct Early {
  Early() {
    early_block = malloc(1000);
    CHECK(early_block != nullptr);
    fill(early_block, 1000, 1);
    exercise(3);
    auto work = [] {
      early_thread_block = malloc(500);
      fill(early_thread_block, 500, 2);
      exercise(4);
    };
    Thread thread(work);
    thread.join();
  }
  ~Early() {
    // After main and, where it is preloaded, possibly after Tally's own destructors.
    early_destructions++;
    exercise(5);
    free(left_);
  }
  void* left_ = malloc(100);
} early;

__attribute__((constructor(101))) void very_early() {
  char* p = new char[100];
  delete[] p;
  exercise(6);
}

// Whatever of Tally has ended by then, its malloc has not.
__attribute__((destructor(101))) void very_late() {
  exercise(7);
  static void* blocks[2000];
  for (size_t i = 0; i < 2000; i++) {
    blocks[i] = malloc(i * 3);
    CHECK(tally_tag_of(blocks[i]) != TALLY_TAG_NONE);
  }
  for (void* p : blocks) free(p);
}

}  // namespace
