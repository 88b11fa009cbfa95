// The C++ headers in a program without exceptions and RTTI: what would be an exception ends it by
// std::terminate; what has a form without one reports by that.
#include <sys/wait.h>

#include <boost/pool/pool.hpp>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory_resource>
#include <string>
#include <tally/buffer_pool.hpp>
#include <tally/memory.hpp>
#include <tally/pool.hpp>
#include <tally/resource_pool.hpp>
#include <vector>

#include "check.h"

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this is about programs without them"
#endif

namespace {

using tally::Tag;

constexpr int kTerminated = 42;

// Whether the function, in a child, calls std::terminate.
template <class Function>
bool terminates(Function function) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    std::set_terminate([] { _exit(kTerminated); });
    function();
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == kTerminated;
}

void containers() {
  const Tag tag = Tag::create("/plain/containers");
  {
    std::vector<int, tally::Allocator<int>> v(100, 7, tag);
    tally::MemoryResource resource(tag);
    std::pmr::map<int, std::pmr::string> map(&resource);
    for (int i = 0; i < 100; ++i) map.emplace(i, std::string(100, 'x'));
    CHECK_OP(tag.stats().own.live_blocks, ==, 1 + 100 * 2);
    std::pmr::map<int, std::pmr::string> moved(std::move(map), &resource);
    CHECK_OP(tag.stats().own.live_blocks, ==, 1 + 100 * 2);
    CHECK(tally::make_unique_in<int>(tag, 5) != nullptr);
    boost::pool<tally::BoostUserAllocator<tally::NamedTag<"plain/boost">>> chunks(48);
    CHECK((chunks.malloc)() != nullptr);
  }
  CHECK_OP(tag.stats().own.live_blocks, ==, 0);

  const Tag none(TALLY_TAG_NONE);
  CHECK(terminates([&] { std::vector<int, tally::Allocator<int>>(100, 7, none); }));
  CHECK(terminates([&] { (void)tally::Allocator<int>(tag).allocate(opaque(SIZE_MAX)); }));
  CHECK(terminates([&] { (void)tally::MemoryResource(none).allocate(100); }));
  CHECK(terminates([&] { (void)tally::make_unique_in<int>(none, 5); }));
}

void pools() {
  const Tag tag = Tag::create("/plain/pools"), none(TALLY_TAG_NONE);
  {
    tally::ObjectPool<int, std::mutex> objects(tag, 1);
    const auto object = objects.make(5);
    CHECK(*object == 5);
    CHECK(objects.construct(6) == nullptr);
    CHECK(errno == ENOSPC);
    CHECK(tally::ObjectPool<int>(none, 5).construct() == nullptr);

    tally::BufferPool buffers(tag, 1 << 20);
    CHECK(buffers.get(100).size() == 100);
    CHECK(!buffers.try_get(opaque(SIZE_MAX)));
    CHECK(terminates([&] { (void)buffers.get(opaque(SIZE_MAX)); }));

    tally::ResourcePool<int> resources(tag, {.create = [] { return std::make_unique<int>(7); },
                                             .reset = [](int&) { return true; },
                                             .max = 1});
    auto resource = resources.acquire();
    CHECK(*resource == 7);
    CHECK(!resources.acquire_for(std::chrono::seconds(0)));
    CHECK(errno == ETIMEDOUT);
  }
  CHECK_OP(tag.stats().own.live_blocks, ==, 0);
  CHECK(terminates([&] { tally::ObjectPool<int>(tag, 0); }));
  CHECK(terminates([&] { tally::BufferPool(tag, 0); }));
  CHECK(terminates([&] { tally::ResourcePool<int>(tag, {}); }));
}

}  // namespace

int main() {
  CHECK_LIVE();
  containers();
  pools();
}
