#include <algorithm>

#include "profile_formats.h"
#include "text.h"

namespace tally::tool {
namespace {

// ';' separates frames, and a line is a stack.
std::string part_of(std::string_view text) {
  std::string part = printable(text);
  std::replace(part.begin(), part.end(), ';', ':');
  return part;
}

}  // namespace

std::string profile_as_folded(const ShownProfile& shown) {
  std::string text;
  for (const ViewRow& row : shown.view.rows) {
    if (row.amount.bytes == 0) continue;
    text += part_of(shown.profile.name(row.site->tag));
    const std::vector<uint32_t> calls = shown.symbols.stack_of(row.site->call);
    for (auto call = calls.rbegin(); call != calls.rend(); ++call) {
      const std::vector<Frame>& frames = shown.symbols.frames_of(*call);
      for (auto frame = frames.rbegin(); frame != frames.rend(); ++frame) {
        text.append(";").append(part_of(frame->function));
      }
    }
    text.append(" ").append(std::to_string(row.amount.bytes)).append("\n");
  }
  return text;
}

}  // namespace tally::tool
