// A million tags over time, as of a service that makes one for each request: made, allocated under,
// retired and forgotten by several threads, some blocks outliving their tag. Ids are used again and
// nothing grows. The argument says how many.
#include "threads.hpp"

namespace {

constexpr int kThreads = 2, kOutlive = 64;

uint64_t metadata_bytes() { return stats_of(tally_tag_find("/tally")).own.footprint_bytes; }

void serve(int worker, int count, tally_tag* highest) {
  void* outlive[kOutlive] = {};
  char path[64];
  for (int i = 0; i < count; i++) {
    snprintf(path, sizeof path, "/requests/%d-%d", worker, i);
    const tally_tag tag = tally_tag_create(path);
    CHECK(tag != TALLY_TAG_NONE && tally_tag_push(tag) == 0);
    void* block = malloc(200);
    free(outlive[i % kOutlive]);
    outlive[i % kOutlive] = malloc(100);
    CHECK(tally_tag_of(block) == tag);
    CHECK(tally_tag_pop() == 0);
    CHECK(tally_tag_retire(tag) == 0);
    free(block);
    if (tag > *highest) *highest = tag;
  }
  for (void* p : outlive) free(p);
}

void serve_all(int count, tally_tag* highest) {
  int next = 0;
  auto work = [&] {
    serve(__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED), count / kThreads, highest);
  };
  Thread a(work), b(work);
  a.join(), b.join();
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  const int count = argc > 1 ? atoi(argv[1]) : 1'000'000;
  tally_tag highest = 0;
  serve_all(count / 20, &highest);
  const uint64_t metadata = metadata_bytes();
  const size_t rss = rss_bytes();
  serve_all(count, &highest);
  CHECK_OP(highest, <, 8000);
  CHECK_OP(metadata_bytes(), <=, metadata + (2 << 20));
  CHECK_OP(rss_bytes(), <=, rss + (8 << 20));
  CHECK(tally_tag_find("/requests/0-0") == TALLY_TAG_NONE);
  CHECK_OP(stats_of(TALLY_TAG_ROOT).total.live_blocks, <, 1000);
  return 0;
}
