// TALLY_TAG_BY=module: whoever calls malloc or operator new is charged, in each way there is, from
// several threads and past a thread's end; and what wins over that. by_module A.so B.so
#include <sys/wait.h>

#include <new>

#include "caller.hpp"
#include "classes.h"
#include "threads.hpp"

namespace {

constexpr char kA[] = "/lib/libcaller_a.so.1";  // its soname
constexpr char kB[] = "/lib/caller_b.so";       // the name of its file
char self[64];                                  // ours

constexpr size_t kSizes[] = {1, 16, 100, 1000, 3000, 8192, 8193, 20000, 65537, 300000, 5 << 20};

void each_way(const Caller& caller, const char* tag) {
  size_t count;
  const Way* ways = caller.ways(&count);
  CHECK_OP(count, ==, 17);
  for (size_t i = 0; i < count; ++i) {
    for (size_t n : kSizes) {
      for (int again = 0; again < 3; ++again) {
        void* p = ways[i].allocate(n);
        if (p == nullptr || strcmp(tag_name_of(p), tag) != 0) {
          dprintf(2, "%s of %zu: tagged %s, not %s\n", ways[i].name, n, tag_name_of(p), tag);
          _exit(1);
        }
        free(p);
      }
    }
  }
}

void libcs_and_our_own(const Caller& a) {
  void* copy = a.copy("strdup is libc's");
  CHECK_TAG(copy, "/lib/libc.so.6");
  void* mine = malloc(100);
  CHECK_TAG(mine, self);
  void* also_mine = ::operator new(100);
  CHECK_TAG(also_mine, self);
  free(copy);
  free(mine);
  ::operator delete(also_mine);
}

void realloc_keeps_the_tag(const Caller& a, const Caller& b) {
  void* p = a.allocate(10);
  for (size_t n : kSizes) {
    p = b.resize(p, n);
    CHECK_TAG(p, kA);
    p = realloc(p, n + 7);
    CHECK_TAG(p, kA);
  }
  free(p);
}

void argument_and_scope_win(const Caller& a) {
  tally_tag tag = tally_tag_create("chosen"), inner = tally_tag_create("inner");
  void* p = tally_malloc(tag, 100);
  CHECK_TAG(p, "/chosen");
  free(p);
  for (int round = 0; round < 3; ++round) {
    CHECK(tally_tag_push(tag) == 0);
    each_way(a, "/chosen");
    CHECK(tally_tag_push(inner) == 0);
    each_way(a, "/inner");
    CHECK(tally_tag_pop() == 0);
    each_way(a, "/chosen");
    CHECK(tally_tag_pop() == 0);
    each_way(a, kA);
  }
  // The root too, where somebody chose it.
  CHECK(tally_tag_push(TALLY_TAG_ROOT) == 0);
  each_way(a, "/");
  CHECK(tally_tag_pop() == 0);
}

void exact_totals(const Caller& a, const Caller& b) {
  constexpr uint64_t kCount = 1000;
  tally_stats_t before = stats_of(tally_tag_find(kA)), other = stats_of(tally_tag_find(kB));
  void* blocks[kCount];
  for (uint64_t i = 0; i < kCount; ++i) blocks[i] = a.allocate(i + 1);
  void* one = b.allocate(64);
  tally_stats_t after = stats_of(tally_tag_find(kA));
  CHECK_OP(after.own.alloc_count - before.own.alloc_count, ==, kCount);
  CHECK_OP(after.own.requested_bytes - before.own.requested_bytes, ==, kCount * (kCount + 1) / 2);
  uint64_t bytes = 0;
  for (void* block : blocks) bytes += counted_bytes(block);
  CHECK_OP(after.own.live_bytes - before.own.live_bytes, ==, bytes);
  CHECK_OP(stats_of(tally_tag_find(kB)).own.live_bytes - other.own.live_bytes, ==, class_of(64));
  tally_snapshot_t* all = tally_snapshot();
  CHECK(all != nullptr);
  uint64_t live = 0, allocs = 0;
  for (uint64_t i = 0; i < all->tag_count; ++i) {
    live += all->tags[i].own.live_bytes;
    allocs += all->tags[i].own.alloc_count;
  }
  CHECK_OP(live, ==, all->process.live_bytes);
  CHECK_OP(allocs, ==, stats_of(TALLY_TAG_ROOT).total.alloc_count);
  tally_snapshot_free(all);
  for (void* block : blocks) free(block);
  free(one);
  CHECK_OP(stats_of(tally_tag_find(kA)).own.live_bytes, ==, before.own.live_bytes);
}

pthread_key_t late_key;
const Caller* late_caller;

// Past the thread's teardown, as Tally sees it.
void late(void* round) {
  size_t next = reinterpret_cast<size_t>(round) + 1;
  if (next < 4) {
    pthread_setspecific(late_key, reinterpret_cast<void*>(next));
    return;
  }
  each_way(*late_caller, kA);
  each_way(*late_caller, kA);
}

void on_threads(const Caller& a, const Caller& b) {
  late_caller = &a;
  CHECK(pthread_key_create(&late_key, late) == 0);
  auto work = [&] {
    pthread_setspecific(late_key, reinterpret_cast<void*>(1));
    for (int i = 0; i < 5; ++i) {
      each_way(a, kA);
      each_way(b, kB);
    }
  };
  for (int round = 0; round < 3; ++round) {
    Thread one(work), two(work), three(work), four(work);
    one.join(), two.join(), three.join(), four.join();
  }
}

void in_a_child(const Caller& a, const Caller& b) {
  each_way(a, kA);
  each_way(b, kB);
  auto work = [&] { each_way(b, kB); };
  Thread thread(work);
  thread.join();
}

// The nearest tag above that is not, from the next slow step on; and it is not brought back.
void retired(const Caller& a) {
  void* held = a.allocate(100);
  CHECK(tally_tag_retire(tally_tag_find(kA)) == 0);
  void* blocks[5000];
  for (void*& block : blocks) block = a.allocate(100);
  CHECK_TAG(blocks[4999], "/lib");
  CHECK_TAG(held, kA);
  for (void* block : blocks) free(block);
  each_way(a, "/lib");
  CHECK(tally_tag_find(kA) == TALLY_TAG_NONE);
  free(held);
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  CHECK(argc == 3);
  const char* slash = strrchr(argv[0], '/');
  snprintf(self, sizeof self, "/exe/%s", slash == nullptr ? argv[0] : slash + 1);
  Caller a(argv[1]), b(argv[2]);
  each_way(a, kA);
  each_way(b, kB);
  libcs_and_our_own(a);
  realloc_keeps_the_tag(a, b);
  argument_and_scope_win(a);
  exact_totals(a, b);
  on_threads(a, b);
  exact_totals(a, b);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    in_a_child(a, b);
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  retired(a);
  return 0;
}
