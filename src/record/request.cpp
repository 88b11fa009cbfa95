#include "record/request.h"

#include <errno.h>
#include <string.h>

#include "heap/purge.h"
#include "record/writer.h"
#include "tag/tag.h"

namespace tally::record {
namespace {

// As tally_limit_set, but for the tag, which is made if there is none.
int set_limit(const Request& request) {
  if (memchr(request.tag, 0, sizeof request.tag) == nullptr) return EINVAL;
  core::Policy policy;
  if (!core::read_policy(request.policy, &policy)) return EINVAL;
  core::TagReader reader;
  uint32_t id = core::kNoTag;
  if (int error = core::create_tag(request.tag, &id)) return error;
  core::Tag* tag = core::taking_tag(id);
  if (tag == nullptr) return EINVAL;
  if (int error = core::set_limit(tag, request.soft, request.hard, policy)) return error;
  write_event(EventKind::kLimitSet, *tag, 0, 0);
  return 0;
}

}  // namespace

bool serve(const Request& request, uint64_t last, Reply* reply) {
  const uint64_t sequence = request.seal.sequence;
  if (sequence <= last || request.seal.checksum != seal_of(&request, sizeof request, sequence)) {
    return false;
  }
  if (request.kind == RequestKind::kNone) return false;
  *reply = {};
  switch (request.kind) {
    case RequestKind::kSetLimit:
      reply->error = set_limit(request);
      break;
    case RequestKind::kTrim:
      reply->bytes = core::purge_all(false);
      break;
    default:
      reply->error = EINVAL;
  }
  return true;
}

}  // namespace tally::record
