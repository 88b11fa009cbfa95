// A server that never stands still, for tests/soak/soak_test.py to watch: sessions are threads that
// come and go; a request has a tag of its own, made, used and retired, with containers, an arena,
// objects of pools and blocks that it leaves to its tenant; tenants have limits, which change, and
// are met; and all the while there are forks, snapshots and trims. Every so often all requests wait
// for a moment, and what each tag has live must agree, to the byte, with the books that the program
// keeps itself.
//
//   server [--seed N] [--leak BYTES]
//     until its input ends; each audit leaks so much
#include <tally_test.h>
//
#include <check.h>
#include <poll.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <tally/arena.hpp>
#include <tally/pool.hpp>
#include <tally/resource_pool.hpp>
#include <tally/tally.hpp>
#include <thread>
#include <vector>

#include "blocks.hpp"
#include "classes.h"

namespace {

using std::chrono::milliseconds;

constexpr size_t kTenants = 24, kSlots = 200, kLanes = 4;
constexpr uint64_t KiB = 1024, MiB = 1024 * KiB;

struct Options {
  uint64_t seed = 1, leak = 0;
} g_options;

std::atomic<uint64_t> g_requests{0}, g_refused{0}, g_pressed{0}, g_forks{0}, g_snapshots{0};
std::atomic<bool> g_stop{false};

// Requests pass the first and hold the second shared; an audit takes both, so that none begins and
// none is under way.
std::mutex g_turnstile;
std::shared_mutex g_working;

struct Block {
  void* p = nullptr;
  size_t size = 0;
  uint32_t mark = 0;
};

// What a tenant keeps, and the books of it. The thread that frees is seldom the one that allocated.
class Tenant {
 public:
  void open(size_t number) {
    tag_ = tally::Tag::create(("/tenants/" + std::to_string(number)).c_str());
    CHECK(tag_);
    is_limited_ = number % 3 == 0;
    set_limit(8 * MiB);
    if (number % 3 == 1) CHECK(tag_.limit(2 * MiB, TALLY_LIMIT_NONE));
    CHECK(tally_on_pressure(tag_.id(), count_pressure, nullptr, nullptr) == 0);
  }
  tally_tag tag() const { return tag_.id(); }
  void set_limit(uint64_t bytes) const {
    if (is_limited_) CHECK(tag_.limit(bytes / 2, bytes));
  }

  // Null where the limit refuses; then something of it goes.
  void* take(Random& random, size_t size) {
    void* p = nullptr;
    const uint64_t how = random.below(6);
    if (how == 0) {
      p = tally_malloc(tag(), size);
    } else if (how == 1) {
      const size_t alignment = size_t{16} << random.below(6);
      p = tally_aligned_alloc(tag(), alignment, in_its_class(size, alignment));
    } else {
      const tally::TagScope scope(tag_);
      p = how < 4 ? malloc(size) : calloc(1, size);
    }
    if (p != nullptr) note(p, true);
    if (p == nullptr) refused(random);
    return p;
  }
  // From another tag, whose block it was.
  void* adopt(Random& random, void* p, size_t size) {
    void* mine = tally_realloc(tag(), p, size);
    if (mine != nullptr) note(mine, true);
    if (mine == nullptr) {
      refused(random);
      free(p);
    }
    return mine;
  }
  void keep(Random& random, Block block) {
    Block old = swap(random, block);
    if (old.p == nullptr) return;
    CHECK(is_filled(old.p, old.size, old.mark));
    if (random.below(4) == 0) old = resize(random, old);
    if (old.p != nullptr) give(old);
  }
  void charge(Random& random) {
    const size_t bytes = 1 + random.below(100 * KiB);
    tally::Charge charge(tag_, bytes);
    if (!charge) return;
    CHECK(charge.bytes() == bytes);
  }
  void drop_all() {
    for (Block& block : slots_) {
      if (block.p == nullptr) continue;
      CHECK(is_filled(block.p, block.size, block.mark));
      give(block);
      block = {};
    }
  }
  // Sessions may be ending, and a trim may be under way, and figures are exact when nothing is: so
  // they are looked at until they agree.
  void audit() const {
    tally_stats_t stats = stats_of(tag());
    for (int i = 0; i < 1000 && !agrees(stats); ++i) {
      std::this_thread::sleep_for(milliseconds(1));
      stats = stats_of(tag());
    }
    CHECK_OP(stats.own.live_bytes, ==, live_bytes_.load());
    CHECK_OP(stats.own.live_blocks, ==, live_blocks_.load());
    CHECK_OP(stats.own.charged_bytes, ==, 0);
  }

 private:
  bool agrees(const tally_stats_t& stats) const {
    return stats.own.live_bytes == live_bytes_.load() &&
           stats.own.live_blocks == live_blocks_.load();
  }
  static void count_pressure(tally_tag /*tag*/, int /*level*/, void* /*arg*/) {
    g_pressed.fetch_add(1, std::memory_order_relaxed);
  }
  // Hardened, what a block counts is told by its size alone, without its alignment; that long, it
  // has the class that it would have without.
  static size_t in_its_class(size_t size, size_t alignment) {
    const size_t step = 8 * alignment;
    return tally_is_hardened() ? (size + 8 + step - 1) / step * step - 8 : size;
  }
  void note(void* p, bool taken) {
    const uint64_t bytes = counted_bytes(p);
    CHECK(tally_tag_of(p) == tag());
    live_bytes_ += taken ? bytes : -bytes;
    live_blocks_ += taken ? 1 : uint64_t(-1);
  }
  void give(Block block) {
    note(block.p, false);
    free(block.p);
  }
  Block swap(Random& random, Block block) {
    const std::lock_guard lock(mutex_);
    std::swap(slots_[random.below(kSlots)], block);
    return block;
  }
  Block resize(Random& random, Block block) {
    note(block.p, false);
    const size_t size = 1 + random.below(2 * block.size);
    void* p = realloc(block.p, size);
    note(p == nullptr ? block.p : p, true);
    if (p == nullptr) return block;
    CHECK(is_filled(p, block.size, block.mark, size));
    return {p, size, block.mark};
  }
  void refused(Random& random) {
    CHECK(errno == ENOMEM);
    g_refused.fetch_add(1, std::memory_order_relaxed);
    for (int i = 0; i < 8; ++i) {
      const Block old = swap(random, {});
      if (old.p != nullptr) give(old);
    }
  }

  tally::Tag tag_{TALLY_TAG_NONE};
  bool is_limited_ = false;
  std::mutex mutex_;
  std::vector<Block> slots_{kSlots};
  std::atomic<uint64_t> live_bytes_{0}, live_blocks_{0};
};
std::vector<Tenant> g_tenants(kTenants);

size_t some_size(Random& random) {
  const uint64_t kind = random.below(1000);
  if (kind < 800) return 1 + random.below(600);
  if (kind < 970) return 1 + random.below(8 * KiB);
  if (kind < 998) return 1 + random.below(64 * KiB);
  return 1 + random.below(1500 * KiB);
}

struct Connection {
  std::vector<char> buffer = std::vector<char>(3000);
};
struct Order {
  uint64_t id, price[6];
};
struct Pools {
  tally::Tag tag = tally::Tag::create("/pools");
  tally::ResourcePool<Connection> connections{tag,
                                              {.create =
                                                   [this] {
                                                     const tally::TagScope scope(tag);
                                                     return std::make_unique<Connection>();
                                                   },
                                               .max = 3,
                                               .idle_limit = milliseconds(20),
                                               .lifetime_limit = milliseconds(300)}};
  tally::ObjectPool<Order, std::mutex> orders{tag, 1000};
};

// ---- A request.

void parse(Random& random, tally::Tag tag) {
  const tally::TagScope scope(tag);
  std::map<std::string, std::string> headers;
  for (uint64_t i = 0, n = random.below(20); i < n; ++i) {
    headers["header-" + std::to_string(i)] = std::string(random.below(200), 'x');
  }
  tally::Arena arena(tag, {.first_bytes = 1024});
  std::pmr::vector<std::pmr::string> words(&arena);
  for (uint64_t i = 0, n = random.below(60); i < n; ++i) words.emplace_back(random.below(100), 'w');
}

// A tag's place is another's when nobody can be reading of it any more.
std::atomic<uint64_t> g_highest_id{0};
void note_id(uint64_t id) {
  uint64_t highest = g_highest_id;
  while (id > highest && !g_highest_id.compare_exchange_weak(highest, id)) {
  }
}

void serve(Random& random, Pools& pools, uint64_t number) {
  const tally::Tag tag = tally::Tag::create(("/requests/" + std::to_string(number)).c_str());
  CHECK(tag);
  note_id(tag.id());
  if (random.below(8) == 0) CHECK(tag.limit(64 * KiB, 4 * MiB));
  parse(random, tag);
  Tenant& tenant = g_tenants[random.below(kTenants)];
  for (uint64_t i = 0, n = 1 + random.below(4); i < n; ++i) {
    const size_t size = some_size(random);
    const auto mark = static_cast<uint32_t>(random.next());
    void* p = random.below(3) == 0 ? tally_malloc(tag.id(), size / 2 + 1) : nullptr;
    p = p != nullptr ? tenant.adopt(random, p, size) : tenant.take(random, size);
    if (p == nullptr) continue;
    fill(p, size, mark);
    tenant.keep(random, {p, size, mark});
  }
  tenant.charge(random);
  if (auto connection = pools.connections.acquire_for(milliseconds(50))) {
    connection->buffer[random.below(3000)] = 'c';
    auto order = pools.orders.make(Order{number, {}});
    CHECK(order != nullptr && order->id == number);
  }
  CHECK(tag.retire());
}

// Destroyed as the thread ends.
thread_local std::string t_greeting;

void session(uint64_t seed, Pools& pools) {
  Random random(seed);
  t_greeting = "session " + std::string(100 + random.below(400), 's');
  for (uint64_t i = 0, n = 20 + random.below(400); i < n && !g_stop; ++i) {
    { const std::lock_guard pass(g_turnstile); }
    const std::shared_lock work(g_working);
    serve(random, pools, g_requests.fetch_add(1));
  }
}

void lane(uint64_t number, Pools& pools) {
  for (uint64_t i = 0; !g_stop; ++i) {
    std::thread(session, g_options.seed * 1000003 + number * 7919 + i * 104729, std::ref(pools))
        .join();
  }
}

// ---- Around them.

[[noreturn]] void child(uint64_t seed) {
  alarm(60);
  Random random(seed);
  const tally::Tag tag = tally::Tag::create("/child");
  void* blocks[100] = {};
  for (int i = 0; i < 1000; ++i) {
    void*& p = blocks[random.below(100)];
    free(p);
    p = tally_malloc(tag.id(), some_size(random));
    CHECK(p != nullptr);
  }
  for (void* p : blocks) free(p);
  CHECK_OP(stats_of(tag.id()).own.live_bytes, ==, 0);
  _exit(0);
}

void fork_now_and_then() {
  for (uint64_t i = 0; !g_stop; ++i) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) child(g_options.seed + i);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_OP(status, ==, 0);
    g_forks.fetch_add(1);
    std::this_thread::sleep_for(milliseconds(200));
  }
}

void look_and_change() {
  Random random(g_options.seed + 5);
  std::vector<char> text(1 * MiB);
  for (uint64_t i = 0; !g_stop; ++i) {
    tally_snapshot_t* snapshot = tally_snapshot();
    CHECK(snapshot != nullptr);
    for (uint64_t at = 0; at < snapshot->tag_count; ++at) {
      CHECK(snapshot->tags[at].own.live_bytes <= snapshot->tags[at].own.footprint_bytes);
    }
    tally_snapshot_free(snapshot);
    CHECK(tally_snapshot_json(text.data(), text.size()) > 0);
    g_tenants[random.below(kTenants)].set_limit(1 * MiB << random.below(4));
    if (i % 50 == 49) tally_trim();
    g_snapshots.fetch_add(1);
    std::this_thread::sleep_for(milliseconds(20));
  }
}

// Nothing is under way. What is left of a request is its tag, until a later one takes its place.
void audit() {
  const std::lock_guard pass(g_turnstile);
  const std::unique_lock work(g_working);
  for (const Tenant& tenant : g_tenants) tenant.audit();
  tally_snapshot_t* snapshot = tally_snapshot();
  CHECK(snapshot != nullptr);
  for (uint64_t i = 0; i < snapshot->tag_count; ++i) {
    const tally_stats_t& tag = snapshot->tags[i];
    if (strncmp(tag.name, "/requests/", 10) == 0) CHECK_OP(tag.own.live_bytes, ==, 0);
  }
  // Each line is one that the watcher knows of an audit that was passed.
  printf("requests %llu tags %llu ids %llu refused %llu pressed %llu forks %llu snapshots %llu\n",
         static_cast<unsigned long long>(g_requests.load()),
         static_cast<unsigned long long>(snapshot->tag_count),
         static_cast<unsigned long long>(g_highest_id.load()),
         static_cast<unsigned long long>(g_refused.load()),
         static_cast<unsigned long long>(g_pressed.load()),
         static_cast<unsigned long long>(g_forks.load()),
         static_cast<unsigned long long>(g_snapshots.load()));
  fflush(stdout);
  tally_snapshot_free(snapshot);
}

// All is given back.
void check_the_end() {
  for (Tenant& tenant : g_tenants) tenant.drop_all();
  audit();
  tally_trim();
  for (const Tenant& tenant : g_tenants) {
    CHECK_OP(stats_of(tenant.tag()).own.live_bytes, ==, 0);
    CHECK_OP(stats_of(tenant.tag()).own.footprint_bytes, <=, 256 * KiB);
  }
  CHECK_OP(stats_of(tally_tag_find("/pools")).own.live_bytes, ==, 0);
  // Not even its tags: the next one to be made takes the place of those that are retired.
  CHECK(tally_tag_create("/last") != TALLY_TAG_NONE);
  tally_snapshot_t* snapshot = tally_snapshot();
  CHECK_OP(snapshot->tag_count, <=, kTenants + 40);
  tally_snapshot_free(snapshot);
}

void parse_arguments(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const uint64_t value = std::strtoull(argv[i + 1], nullptr, 10);
    uint64_t* option = name == "--seed"   ? &g_options.seed
                       : name == "--leak" ? &g_options.leak
                                          : nullptr;
    CHECK(option != nullptr);
    *option = value;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  parse_arguments(argc, argv);
  for (size_t i = 0; i < kTenants; ++i) g_tenants[i].open(i);
  const tally_tag leaks = tally_tag_create("/leaks");
  {
    Pools pools;
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < kLanes; ++i) threads.emplace_back(lane, i, std::ref(pools));
    threads.emplace_back(fork_now_and_then);
    threads.emplace_back(look_and_change);
    pollfd input = {.fd = 0, .events = POLLIN, .revents = 0};
    while (poll(&input, 1, 200) == 0) {
      audit();
      if (g_options.leak != 0) memset(tally_malloc(leaks, g_options.leak), 1, g_options.leak);
    }
    g_stop = true;
    printf("stopping\n");
    fflush(stdout);
    for (std::thread& thread : threads) thread.join();
  }
  check_the_end();
  printf("done\n");
  return 0;
}
