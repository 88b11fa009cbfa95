// Compiled only: the C++ header stands alone, without exceptions and RTTI.
#include <tally/tally.hpp>

static_assert(sizeof(tally::Tag) == sizeof(tally_tag));
static_assert(!tally::Tag(TALLY_TAG_NONE) && tally::Tag() == tally::Tag(TALLY_TAG_ROOT));

size_t use_tally(const char* path) {
  const tally::TagScope scope(tally::Tag::create(path));
  return tally::Tag::current().name().size();
}
