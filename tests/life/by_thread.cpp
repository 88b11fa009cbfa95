// TALLY_TAG_BY=thread: the name of the thread decides, and its renames.
#include <sys/prctl.h>

#include <atomic>
#include <new>

#include "caller.hpp"
#include "threads.hpp"

namespace {

void set_name(const char* name) { CHECK(pthread_setname_np(pthread_self(), name) == 0); }

// Until blocks of the thread have this tag; each time it needs fresh ones it may learn of a rename.
void wait_for(const char* tag) {
  void* first = nullptr;  // keeps what it takes, so that it needs more
  for (int i = 0; i < 2000; ++i) {
    for (int j = 0; j < 50; ++j) {
      auto* p = static_cast<void**>(malloc(500));
      *p = first;
      first = p;
    }
    if (strcmp(tag_name_of(first), tag) == 0) break;
    usleep(1000);
  }
  CHECK_TAG(first, tag);
  while (first != nullptr) {
    void* next = *static_cast<void**>(first);
    free(first);
    first = next;
  }
}

void each_size(const char* tag) {
  for (size_t n : {1, 100, 5000, 50000, 200000, 5 << 20}) {
    void* blocks[] = {malloc(n), calloc(1, n), aligned_alloc(64, n), ::operator new(n)};
    for (void* p : blocks) CHECK_TAG(p, tag);
    for (void* p : blocks) free(p);
  }
}

void named_and_folded() {
  auto work = [] {
    static std::atomic<int> number{0};
    char name[16];
    snprintf(name, sizeof name, "worker-%d", number.fetch_add(1));
    set_name(name);
    each_size("/thread/worker-#");
    void* p = malloc(100);
    set_name("other");
    p = realloc(p, 100000);  // keeps its tag
    CHECK_TAG(p, "/thread/worker-#");
    free(p);
  };
  Thread a(work), b(work), c(work);
  a.join(), b.join(), c.join();
  CHECK_OP(stats_of(tally_tag_find("/thread/worker-#")).own.live_bytes, ==, 0);
}

void renamed_by_itself() {
  auto work = [] {
    set_name("before");
    each_size("/thread/before");
    set_name("after/all");
    wait_for("/thread/after_all");
    each_size("/thread/after_all");
    // Others' tags win, and a rename holds below them.
    tally_tag tag = tally_tag_create("chosen");
    CHECK(tally_tag_push(tag) == 0);
    each_size("/chosen");
    set_name("in-scope-3");
    usleep(20000);
    each_size("/chosen");
    wait_for("/chosen");
    CHECK(tally_tag_pop() == 0);
    each_size("/thread/in-scope-#");
    CHECK(tally_tag_current() == tally_tag_find("/thread/in-scope-#"));
    void* p = tally_malloc(tag, 100);
    CHECK_TAG(p, "/chosen");
    free(p);
  };
  Thread thread(work);
  thread.join();
}

std::atomic<int> step{0};

void renamed_by_another() {
  pthread_t id;
  void* (*work)(void*) = [](void*) -> void* {
    set_name("old");
    each_size("/thread/old");
    step.store(1);
    while (step.load() != 2) usleep(1000);
    wait_for("/thread/new");
    return nullptr;
  };
  CHECK(pthread_create(&id, nullptr, work, nullptr) == 0);
  while (step.load() != 1) usleep(1000);
  CHECK(pthread_setname_np(id, "new") == 0);
  step.store(2);
  CHECK(pthread_join(id, nullptr) == 0);
}

// The nearest tag above is used instead, from the next slow step on.
void retired() {
  auto work = [] {
    set_name("leaving");
    each_size("/thread/leaving");
    CHECK(tally_tag_retire(tally_tag_find("/thread/leaving")) == 0);
    wait_for("/thread");
    each_size("/thread");
  };
  Thread thread(work);
  thread.join();
}

// Threads of other names continue with the heaps of those that ended.
void one_after_the_other() {
  for (int i = 0; i < 300; ++i) {
    auto work = [&] {
      char name[16], tag[32];
      snprintf(name, sizeof name, "t%d-x", i % 7);
      snprintf(tag, sizeof tag, "/thread/%s", name);
      set_name(name);
      each_size(tag);
    };
    Thread thread(work);
    thread.join();
  }
}

}  // namespace

int main() {
  CHECK_LIVE();
  char comm[16], tag[32];
  CHECK(prctl(PR_GET_NAME, comm) == 0);
  snprintf(tag, sizeof tag, "/thread/%s", comm);
  each_size(tag);
  named_and_folded();
  renamed_by_itself();
  renamed_by_another();
  retired();
  one_after_the_other();
  each_size(tag);
  return 0;
}
