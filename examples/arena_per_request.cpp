// A server that gives each request an arena, and takes everything back at once when it is answered.
//
// A request's text is parsed into containers of std::pmr that live in the arena of the worker's
// thread; answering allocates scratch space in a scope of its own. No destructor of theirs has
// anything to give back: a reset ends the request. After the first requests the arena keeps a
// segment that is long enough for all that come, and the heap is not called any more.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <memory_resource>
#include <random>
#include <string>
#include <string_view>
#include <tally/arena.hpp>
#include <unordered_map>
#include <vector>

namespace {

constexpr size_t kKiB = 1024;
constexpr int kWarmUp = 50;
constexpr int kRequests = 20000;
constexpr uint64_t kLimit = 1024 * kKiB;

// What comes from the network: "GET /path?key=value&key=value", then a header a line.
class Network {
 public:
  std::string_view receive() {
    text_ = "GET /items/" + std::to_string(random_() % 1000) + "?";
    for (unsigned i = random_() % 20 + 1; i != 0; --i) add("key", "=", i % 7 != 0 ? '&' : ' ');
    text_.back() = '\n';
    for (unsigned i = random_() % 30 + 1; i != 0; --i) add("x-header", ": ", '\n');
    return text_;
  }

 private:
  void add(const char* name, const char* between, char end) {
    text_ += name + std::to_string(random_() % 100) + between;
    text_.append(random_() % 60 + 1, static_cast<char>('a' + random_() % 26)) += end;
  }

  std::mt19937 random_{1};
  std::string text_;
};

// Cuts off and returns what stands before the first of the separators.
std::string_view next(std::string_view& text, std::string_view separators) {
  const size_t end = std::min(text.find_first_of(separators), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

struct Request {
  using Map = std::pmr::unordered_map<std::pmr::string, std::pmr::vector<std::pmr::string>>;

  explicit Request(std::pmr::memory_resource* memory)
      : path(memory), query(memory), headers(memory) {}

  std::pmr::string path;
  Map query;  // a key may come more than once
  Map headers;
};

void parse(std::string_view text, Request& request) {
  std::string_view line = next(text, "\n");
  next(line, " ");
  request.path = next(line, "?");
  while (!line.empty()) {
    const std::string_view key = next(line, "=");
    request.query[std::pmr::string(key, request.path.get_allocator())].emplace_back(
        next(line, "& "));
  }
  while (!text.empty()) {
    std::string_view header = next(text, "\n");
    const std::string_view name = next(header, ":");
    request.headers[std::pmr::string(name, request.path.get_allocator())].emplace_back(
        header.substr(1));
  }
}

// The length of the answer.
size_t answer(const Request& request, tally::Arena& arena) {
  size_t length = 0;
  for (const Request::Map* map : {&request.query, &request.headers}) {
    for (const auto& [name, values] : *map) {
      // What is put together here is needed for one line.
      const tally::Arena::Scope scope(arena);
      std::pmr::string line(name, &arena);
      for (const std::pmr::string& value : values) line.append(" ").append(value);
      length += line.size();
    }
  }
  return length + request.path.size();
}

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

void print(const char* when, const tally_stats_t& tag, const tally_arena_stats_t& arena) {
  std::cout << when << ": " << tag.name << " holds " << tag.own.live_bytes / kKiB << " KiB in "
            << tag.own.live_blocks << " blocks, after " << tag.own.alloc_count
            << " allocations; the arena uses " << arena.used_bytes / kKiB << " KiB, at most "
            << arena.peak_used_bytes / kKiB << '\n';
}

}  // namespace

int main() {
  const tally::Tag tag = tally::Tag::create("/server/request");
  if (!tag.limit(TALLY_LIMIT_NONE, kLimit)) return 1;
  bool ok = true;
  {
    Network network;
    tally::Arena arena(tag);
    tally_stats_t warm = {};
    uint64_t used = 0;
    size_t sent = 0;
    for (int i = 0; i < kRequests; ++i) {
      if (i == kWarmUp) print("warm", warm = tag.stats(), arena.stats());
      const std::string_view text = network.receive();
      {
        Request request(&arena);
        parse(text, request);
        sent += answer(request, arena);
      }
      used += arena.stats().used_bytes;
      arena.reset();
    }
    const tally_stats_t end = tag.stats();
    print("end", end, arena.stats());
    std::cout << kRequests << " requests, " << sent / kKiB << " KiB sent, " << used / kRequests
              << " bytes of the arena each\n";
    ok &= holds(used / kRequests > 2 * kKiB, "a request needs memory");
    ok &= holds(end.own.alloc_count <= warm.own.alloc_count + 2, "the heap is not called any more");
    ok &= holds(arena.stats().used_bytes == 0, "nothing of a request is left");
    ok &= holds(end.own.live_bytes == arena.stats().reserved_bytes, "all of it is the tag's");
    ok &= holds(end.refused_count == 0, "the limit is not met");
  }
  ok &= holds(tag.stats().own.live_blocks == 0, "the arena gives everything back");
  return ok ? 0 : 1;
}
