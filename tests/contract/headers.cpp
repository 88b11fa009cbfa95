// Compiled only: the C++ headers stand alone, without exceptions and RTTI.
#include <tally/arena.hpp>
#include <tally/tally.hpp>
#include <type_traits>
#include <utility>

static_assert(sizeof(tally::Tag) == sizeof(tally_tag));
static_assert(!tally::Tag(TALLY_TAG_NONE) && tally::Tag() == tally::Tag(TALLY_TAG_ROOT));
static_assert(tally::Pressure::kNormal < tally::Pressure::kSoft &&
              tally::Pressure::kSoft < tally::Pressure::kHard);
static_assert(std::is_nothrow_move_constructible_v<tally::Charge> &&
              std::is_nothrow_move_assignable_v<tally::Charge> &&
              !std::is_copy_constructible_v<tally::Charge>);

size_t use_tally(const char* path) {
  const tally::TagScope scope(tally::Tag::create(path));
  return tally::Tag::current().name().size();
}

// A function of C's form with its argument; an object that is called, const or not, by reference.
// No temporary: it would not outlive the listener.
bool use_limits(tally::Tag tag, size_t bytes) {
  int calls = 0;
  auto count = [&calls](tally::Tag, tally::Pressure level) {
    if (level != tally::Pressure::kNormal) ++calls;
  };
  const auto& constant = count;
  static_assert(!std::is_constructible_v<tally::PressureListener, tally::Tag, decltype(count)>);
  tally_pressure_options only_hard = {};
  only_hard.levels = 1U << TALLY_PRESSURE_HARD;
  const tally::PressureListener first(
      tag, [](tally_tag, int, void* arg) { ++*static_cast<int*>(arg); }, &calls);
  const tally::PressureListener second(tag, count);
  const tally::PressureListener third(tag, constant, only_hard);
  tally::Charge charge(tag, bytes);
  const tally::Charge moved = std::move(charge);
  return tag.limit(bytes, TALLY_LIMIT_NONE) && third.active() && moved &&
         tag.pressure() == tally::Pressure::kNormal;
}

size_t use_arena(tally::Tag tag, size_t bytes) {
  tally::Arena arena(std::nothrow, tag);
  if (!arena) return 0;
  const tally::Arena::Scope scope(arena);
  std::pmr::memory_resource& resource = arena;
  void* block = resource.allocate(bytes);
  resource.deallocate(block, bytes);
  if (arena.alloc(bytes, 64) == nullptr) return 0;
  return *arena.make<size_t>(arena.stats().used_bytes);
}
