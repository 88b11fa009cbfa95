// Writes a snapshot as JSON for json_test.py: to standard output, by way of the buffer or the
// descriptor; before it, one line per tag that the snapshot must show, as "path-in-hex
// live_blocks".
#include <cstdlib>
#include <string>
#include <vector>

#include "check.h"

namespace {

// Names that need escaping, or that careless code takes for something else.
const char* const kPaths[] = {
    "/plain",
    "/quote\"d",
    "/back\\slash",
    "/both\\\"",
    "/percent%s%n",
    "/space in it/ and before",
    "/curly{}[],:",
    "/html</script><b>",
    "/\xc3\xbcml\xc3\xa4ut",
    "/\xe6\x97\xa5\xe6\x9c\xac",
    "/\xf0\x9f\x90\x98",
    "/delete\x7f",
    "/invalid\xff\xfe",
    "/cut\xe6\x97",
    "/overlong\xc0\xaf",
    "/surrogate\xed\xa0\x80",
};

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  CHECK(argc == 2);
  const std::string how = argv[1];
  int blocks = 0;
  for (const char* path : kPaths) {
    const tally_tag tag = tally_tag_create(path);
    if (tag == TALLY_TAG_NONE)
      continue;  // a name may be refused; one that is taken must be written well
    blocks++;
    for (int i = 0; i < blocks; i++)
      CHECK(tally_malloc(tag, static_cast<size_t>(blocks) * 100) != nullptr);
    for (const char* at = path; *at; at++) dprintf(1, "%02x", static_cast<unsigned char>(*at));
    dprintf(1, " %d\n", blocks);
  }
  CHECK(blocks >= 9);
  CHECK(tally_malloc(tally_tag_find("/plain"), 3000000) != nullptr);
  dprintf(1, "JSON\n");
  if (how == "fd") {
    CHECK(tally_snapshot_json_fd(1) == 0);
    return 0;
  }
  static char buffer[1 << 20];
  const size_t n = tally_snapshot_json(buffer, sizeof buffer);
  CHECK(n > 0 && n < sizeof buffer);
  CHECK(write(1, buffer, n) == static_cast<ssize_t>(n));
  return 0;
}
