// Names of tags that nobody chose: of a shared object, a program or a thread; and the user's rules
// that put others in their place.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tag/tag.h"

namespace tally::core {

enum class NameOf : uint8_t { kLibrary, kProgram, kThread };

// A line of TALLY_TAGS has one for each of its patterns.
struct TagRule {
  const char* pattern;  // `*`: any text; `?`: any byte
  const char* path;     // of a tag; as check_tag_path takes it
  uint8_t kinds;        // bits, of 1 << NameOf
};
inline constexpr uint8_t kAllKinds = 7;

// They hold from then on, the first that matches first; all that they point to stays. Before any
// thread's first block.
void set_tag_rules(const TagRule* rules, size_t count);

bool matches(const char* pattern, const char* name);
// "worker-12" becomes "worker-#". The name is changed in place.
void fold_number(char* name);
// The path of the tag: a rule's, or "/lib/<name>", "/exe/<name>", "/thread/<folded name>", with
// what a path cannot have replaced.
void put_tag_path(NameOf kind, const char* name, char (&path)[256]);
// The tag of that path, made if there is none. Where it is retired, or there are no more, the
// nearest above it that takes new blocks. For as long as the caller has a TagReader.
Tag* tag_of_name(NameOf kind, const char* name);

}  // namespace tally::core
