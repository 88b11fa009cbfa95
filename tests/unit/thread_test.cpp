#include "heap/thread.h"

#include <errno.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <string>

#include "heap/allocate.h"
#include "heap/free.h"
#include "heap/purge.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

unsigned threads_known() {
  unsigned n = 0;
  for (const Thread* t = all_threads.load(); t != nullptr; t = t->next_thread) ++n;
  return n;
}

TEST(Thread, IsMadeKnownByItsFirstSlowStep) {
  on_thread([] {
    const Thread* before = tls.thread;
    EXPECT_EQ(tls.heap, &empty_heap);
    release_block(nullptr);
    EXPECT_EQ(tls.thread, before) << "nothing to be known for";
    void* p = allocate(16);
    EXPECT_NE(tls.thread, before);
    EXPECT_EQ(tls.heap, heap_of(kRootTag));
    EXPECT_FALSE(tls.thread->orphan.load());
    release_block(p);
  });
}

TEST(Thread, ANewOneContinuesWithAnOrphan) {
  tally_tag tag = make_tag("/unit/thread/continue");
  Thread* first = nullptr;
  Heap* heap = nullptr;
  void* left = nullptr;
  on_thread([&] {
    left = tally_malloc(tag, 100);
    first = tls.thread;
    heap = heap_of(tag);
  });
  EXPECT_TRUE(first->orphan.load());
  EXPECT_EQ(slab_of(left)->owner.load(), first) << "what is live stays";
  EXPECT_EQ(own(tag).live_blocks, 1U);
  unsigned known = threads_known();
  on_thread([&] {
    void* p = tally_malloc(tag, 100);
    EXPECT_EQ(tls.thread, first);
    EXPECT_FALSE(first->orphan.load());
    EXPECT_EQ(heap_of(tag), heap);
    EXPECT_EQ(slab_of(p), slab_of(left));
    EXPECT_EQ(tally_tag_current(), kRootTag);
    tally_free(p);
    tally_free(left);
  });
  EXPECT_EQ(threads_known(), known);
  EXPECT_EQ(own(tag).live_blocks, 0U);
}

TEST(Thread, AtItsEndItKeepsNothingInHand) {
  tally_tag tag = make_tag("/unit/thread/end");
  Heap* heap = nullptr;
  on_thread([&] {
    std::vector<void*> blocks;
    for (size_t n = 16; n <= 64 * KiB; n *= 2) blocks.push_back(tally_malloc(tag, n));
    tally_tag_push(tag);
    heap = heap_of(tag);
    for (void* p : blocks) tally_free(p);
  });
  for (unsigned c = 0; c < kClasses; ++c) {
    EXPECT_EQ(heap->classes[c].list, nullptr);
    EXPECT_EQ(heap->store[c].returns, nullptr);
  }
  EXPECT_EQ(heap->slabs, 0U);
  EXPECT_EQ(own(tag).footprint_bytes, 0U);
  on_thread([] {
    release_block(allocate(1));
    EXPECT_EQ(tally_tag_pop(), -1) << "its scopes ended with it";
  });
}

TEST(Thread, AsManyAreKnownAsRanAtOnce) {
  for (int i = 0; i < 5; ++i) on_thread([] { release_block(allocate(1)); });
  unsigned known = threads_known();
  for (int i = 0; i < 50; ++i) on_thread([] { release_block(allocate(1)); });
  EXPECT_EQ(threads_known(), known);
}

TEST(Thread, AThousandTagsEachFindTheirHeap) {
  constexpr int kTags = 1000;
  std::vector<tally_tag> tags;
  std::vector<void*> blocks;
  for (int i = 0; i < kTags; ++i) {
    tags.push_back(make_tag(("/unit/thread/many/" + std::to_string(i)).c_str()));
    blocks.push_back(tally_malloc(tags.back(), 40));
  }
  const Thread* thread = tls.thread;
  EXPECT_GE(thread->bucket_mask + 1, static_cast<uint32_t>(kTags) / 2);
  EXPECT_GE(thread->heap_count, static_cast<uint32_t>(kTags));
  uint32_t counted = 0, longest = 0;
  for (uint32_t i = 0; i <= thread->bucket_mask; ++i) {
    uint32_t length = 0;
    for (const Heap* h = thread->buckets[i]; h != nullptr; h = h->next_in_thread) ++length;
    counted += length;
    longest = length > longest ? length : longest;
  }
  EXPECT_EQ(counted, thread->heap_count);
  EXPECT_LE(longest, 8U);
  for (int i = 0; i < kTags; ++i) {
    ASSERT_EQ(heap_of(tags[i])->tag.load()->id, tags[i]);
    ASSERT_EQ(tally_tag_of(blocks[i]), tags[i]);
    ASSERT_EQ(heap_of(tags[i])->classes[class_of(40)].allocs.get(), 1U);
  }
  // Retired, their heaps go to the pool and their ids to the next.
  for (void* p : blocks) tally_free(p);
  for (tally_tag tag : tags) ASSERT_EQ(tally_tag_retire(tag), 0);
  EXPECT_LT(thread->heap_count, 100U);
  for (tally_tag tag : tags) ASSERT_EQ(thread->find_heap(tag), nullptr);
}

// A round of the purge, and slow steps until the thread has looked at all of its heaps.
void look_at_heaps() {
  purge_rounds.fetch_add(1);
  for (int i = 0; i < 1000 && !is_up_to_date(tls.thread); ++i) {
    tally_free(tally_malloc(TALLY_TAG_ROOT, 3 << 20));
  }
  EXPECT_TRUE(is_up_to_date(tls.thread));
}

TEST(Thread, AnIdleHeapGivesBackWhatIsInHand) {
  tally_tag tag = make_tag("/unit/thread/idle");
  void* kept = tally_malloc(tag, 100);
  tally_free(tally_malloc(tag, 5000));
  Heap* heap = heap_of(tag);
  unsigned lists = 0;
  auto look = [&] {
    look_at_heaps();
    lists = 0;
    for (const Heap::Class& of : heap->classes) lists += of.list != nullptr;
  };
  look();
  EXPECT_EQ(lists, 2U) << "it was used";
  look();
  EXPECT_EQ(lists, 0U);
  EXPECT_EQ(heap->slabs, 1U) << "of the block that is left";
  EXPECT_EQ(own(tag).live_blocks, 1U);
  ASSERT_EQ(tally_tag_push(tag), 0);
  tally_free(tally_malloc(tag, 100));
  look();
  look();
  EXPECT_EQ(lists, 1U) << "it is in scope";
  EXPECT_EQ(tally_tag_pop(), 0);
  tally_free(kept);
}

TEST(Thread, AnIdleHeapThatHoldsNothingIsGivenUp) {
  tally_tag tag = make_tag("/unit/thread/idle/empty");
  tally_free(tally_malloc(tag, 100));
  look_at_heaps();
  EXPECT_NE(heap_of(tag), nullptr) << "it was used";
  look_at_heaps();
  EXPECT_EQ(heap_of(tag), nullptr);
  EXPECT_EQ(find_tag(tag)->heaps.load(), 0U);
  EXPECT_EQ(own(tag).alloc_count, 1U);
  EXPECT_EQ(own(tag).requested_bytes, 100U);
  EXPECT_EQ(own(tag).footprint_bytes, 0U);
  void* p = tally_malloc(tag, 100);
  EXPECT_EQ(own(tag).alloc_count, 2U);
  EXPECT_EQ(own(tag).live_blocks, 1U);
  tally_free(p);
}

TEST(Thread, CountsNeverStepBackAsHeapsGo) {
  tally_tag tag = make_tag("/unit/thread/idle/counted");
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> made{0};
  std::thread other([&] {
    while (!stop.load()) {
      for (int i = 0; i < 50; ++i, ++made) tally_free(tally_malloc(tag, 100));
      look_at_heaps();
      look_at_heaps();
      // A reader that meets a heap's end reads again, some times.
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
  });
  uint64_t before = 0;
  while (before < 20000) {
    uint64_t now = own(tag).alloc_count;
    EXPECT_GE(now, before);
    EXPECT_LE(now, made.load() + 1) << "counted twice, in the heap and in the tag";
    before = now;
  }
  stop.store(true);
  other.join();
}

TEST(Thread, TheHeapOfARetiredTagIsGivenUpWhenItIsEmpty) {
  tally_tag tag = make_tag("/unit/thread/drop");
  void* p = tally_malloc(tag, 100);
  Tag* of = find_tag(tag);
  EXPECT_EQ(of->heaps.load(), 1U);
  EXPECT_EQ(tally_tag_retire(tag), 0);
  EXPECT_EQ(of->heaps.load(), 1U) << "it holds a block";
  tally_free(p);
  EXPECT_EQ(of->heaps.load(), 0U);
  EXPECT_EQ(heap_of(tag), nullptr);
  EXPECT_EQ(of->past_allocs.load(), 1U) << "counts outlive the heap";
  EXPECT_EQ(of->past_requested.load(), 100U);
  EXPECT_EQ(make_tag("/unit/thread/next"), tag) << "the id is used again";
}

TEST(Thread, TheHeapOfARetiredTagStaysWhileInScope) {
  tally_tag outer = make_tag("/unit/thread/scope/outer");
  tally_tag inner = make_tag("/unit/thread/scope/inner");
  ASSERT_EQ(tally_tag_push(outer), 0);
  ASSERT_EQ(tally_tag_push(inner), 0);
  EXPECT_EQ(tally_tag_retire(outer), 0);
  EXPECT_EQ(tally_tag_retire(inner), 0);
  EXPECT_NE(heap_of(outer), nullptr);
  EXPECT_NE(heap_of(inner), nullptr);
  tally_tag parent = make_tag("/unit/thread/scope");
  EXPECT_EQ(tally_tag_current(), parent);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_tag_current(), parent);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_tag_current(), kRootTag);
  drop_retired_heaps(tls.thread);
  EXPECT_EQ(heap_of(outer), nullptr);
  EXPECT_EQ(heap_of(inner), nullptr);
}

// A thread in the scope of a retired tag allocates under the parent; when that is retired too and
// its id becomes another tag's, the thread must not follow it there.
TEST(Thread, AScopeNeverBecomesAnotherTags) {
  tally_tag parent = make_tag("/unit_scope"), tag = make_tag("/unit_scope/a"),
            b = make_tag("/unit_scope_b");
  ASSERT_EQ(tally_tag_push(tag), 0);
  ASSERT_EQ(tally_tag_push(b), 0);
  ASSERT_EQ(tally_tag_retire(tag), 0);
  ASSERT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_tag_current(), parent);
  ASSERT_EQ(tally_tag_retire(parent), 0);
  for (int i = 0; i < 4; ++i) make_tag(("/unit_scope_new/" + std::to_string(i)).c_str());
  void* p = allocate(100);
  EXPECT_EQ(tally_tag_of(p), kRootTag);
  EXPECT_EQ(tally_tag_current(), kRootTag);
  release_block(p);
  EXPECT_EQ(tally_tag_pop(), 0);
}

TEST(Thread, OrphansGiveUpHeapsOfRetiredTags) {
  tally_tag tag = make_tag("/unit/thread/orphan/empty");
  on_thread([&] { tally_free(tally_malloc(tag, 100)); });
  EXPECT_EQ(find_tag(tag)->heaps.load(), 1U);
  EXPECT_EQ(tally_tag_retire(tag), 0);
  EXPECT_EQ(find_tag(tag)->heaps.load(), 0U);
}

// "Its id is used again when the last block and child is gone and the threads that used the tag
// have allocated or freed something, or ended."
TEST(Thread, OrphansGiveThemUpWhenTheLastBlockComesBack) {
  tally_tag tag = make_tag("/unit/thread/orphan/late");
  void* p = nullptr;
  on_thread([&] { p = tally_malloc(tag, 100); });
  EXPECT_EQ(tally_tag_retire(tag), 0);
  tally_free(p);
  const Tag* of = find_tag(tag);
  EXPECT_EQ(of->own.now.load(), 0U);
  // Others' slow steps count as little as nothing here: the thread has ended.
  for (int i = 0; i < 300; ++i) release_block(allocate(30000));
  make_tag("/unit/thread/orphan/x"), make_tag("/unit/thread/orphan/y");
  EXPECT_STRNE(of->name, "/unit/thread/orphan/late");
}

TEST(Thread, ScopesNestToTheirLimit) {
  tally_tag tag = make_tag("/unit/thread/deep");
  for (unsigned i = 0; i < kMaxScopes; ++i) ASSERT_EQ(push_tag(tag), 0) << i;
  EXPECT_EQ(push_tag(tag), ENOSPC);
  for (unsigned i = 0; i < kMaxScopes; ++i) ASSERT_EQ(pop_tag(), 0);
  EXPECT_EQ(pop_tag(), EINVAL);
  EXPECT_EQ(push_tag(kNoTag), EINVAL);
  EXPECT_EQ(push_tag(kOwnTag), EINVAL);
  EXPECT_EQ(tally_tag_current(), kRootTag);
}

// After Tally's own exit hook the thread owns nothing; each call borrows an orphan.
struct Late {
  tally_tag tag;
  void* freed_late;
  std::atomic<int> calls{0};
  int push_result = -1, rounds = 0;
  void* kept = nullptr;
};
pthread_key_t g_late_key;

void on_late(void* arg) {
  auto* late = static_cast<Late*>(arg);
  if (++late->rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
    pthread_setspecific(g_late_key, late);
    return;
  }
  for (int i = 0; i < 10; ++i) {
    void* p = tally_malloc(late->tag, 100);
    memset(p, 1, 100);
    tally_free(p);
    ++late->calls;
  }
  tally_free(late->freed_late);
  late->push_result = push_tag(late->tag);
  EXPECT_EQ(pop_tag(), EINVAL);
  EXPECT_EQ(tally_tag_current(), kRootTag);
  late->kept = tally_malloc(late->tag, 200000);
}

TEST(Thread, PastItsEndItBorrows) {
  if (kThreadSanitizer) GTEST_SKIP() << "its own state of the thread is gone by then";
  ASSERT_EQ(pthread_key_create(&g_late_key, on_late), 0);
  Late late;
  late.tag = make_tag("/unit/thread/late");
  on_thread([&] {
    late.freed_late = tally_malloc(late.tag, 100);
    pthread_setspecific(g_late_key, &late);
  });
  EXPECT_EQ(late.calls.load(), 10);
  EXPECT_EQ(late.push_result, EINVAL);
  tally_counts counts = own(late.tag);
  EXPECT_EQ(counts.live_blocks, 1U);
  EXPECT_EQ(counts.alloc_count, 12U);
  tally_free(late.kept);
  for (const Thread* t = all_threads.load(); t != nullptr; t = t->next_thread) {
    EXPECT_TRUE(t == tls.thread || t->orphan.load() || t->heap_count == 0);
  }
  EXPECT_EQ(own(late.tag).live_blocks, 0U);
  pthread_key_delete(g_late_key);
}

TEST(Thread, TagsComeAndGoWhileThreadsUseThem) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([t] {
      Random random(static_cast<uint64_t>(t) + 9);
      for (int i = 0; i < 1500; ++i) {
        std::string path = "/unit/thread/churn/" + std::to_string(random.below(6));
        tally_tag tag = tally_tag_create(path.c_str());
        ASSERT_NE(tag, TALLY_TAG_NONE);
        // Another thread may retire it at any moment, and a third make it anew.
        void* small = tally_malloc(tag, 100);
        void* large = tally_malloc(tag, 100000);
        if (tally_tag_push(tag) == 0) {
          release_block(allocate(64));
          EXPECT_EQ(tally_tag_pop(), 0);
        }
        // Once charged the tag stays what it is.
        if (tally_charge(tag, 1000) == 0) {
          EXPECT_EQ(tally_uncharge(tag, 1000), 0);
        }
        if (small != nullptr) tally_free(small);
        if (large != nullptr) tally_free(large);
        if (random.below(4) == 0) tally_tag_retire(tag);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  tally_stats_t all = stats(make_tag("/unit/thread/churn"));
  EXPECT_EQ(all.total.live_blocks, 0U);
  EXPECT_EQ(all.total.live_bytes, 0U);
  EXPECT_LT(all.total.footprint_bytes, 1U << 20)
      << "else a charge was taken off that was not there";
}

}  // namespace
}  // namespace tally::unit
