#include "request.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "failure.h"
#include "process.h"

namespace tally::tool {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenLooks(2);
constexpr std::chrono::seconds kPatience(2);

// done() until it is true; false: it was not in time.
template <class Done>
bool wait_for(Done done) {
  const auto end = steady_clock::now() + kPatience;
  while (!done()) {
    if (steady_clock::now() > end) return false;
    std::this_thread::sleep_for(kBetweenLooks);
  }
  return true;
}

[[noreturn]] void fail(const Reader& reader, const std::string& why) {
  throw Failure(kFailed, "process " + std::to_string(reader.head().pid) + why);
}

// Whoever asks has a lock on the request, which goes with the descriptor.
File open_locked(const Reader& reader) {
  File file(open(reader.path().c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.descriptor() < 0) throw Failure(kFailed, reader.path() + ": " + strerror(errno));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = record::kAtRequest;
  lock.l_len = sizeof(record::Request);
  bool is_ours = wait_for([&] { return fcntl(file.descriptor(), F_OFD_SETLK, &lock) == 0; });
  if (!is_ours) fail(reader, " is being asked by another tally, which did not end in 2 s");
  return file;
}

void write(const File& file, const record::Request& request, const Reader& reader) {
  ssize_t count = pwrite(file.descriptor(), &request, sizeof request, off_t{record::kAtRequest});
  if (count != ssize_t{sizeof request}) {
    throw Failure(kFailed, reader.path() + ": the request cannot be written: " + strerror(errno));
  }
}

// One that neither the last request nor the last reply has: the process does what is newer.
uint64_t next_sequence(const File& file) {
  record::Request request = {};
  record::Reply reply = {};
  uint64_t last = 0;
  auto look = [&](auto* piece, uint64_t offset) {
    ssize_t count = pread(file.descriptor(), piece, sizeof *piece, static_cast<off_t>(offset));
    bool is_whole =
        count == ssize_t{sizeof *piece} &&
        record::seal_of(piece, sizeof *piece, piece->seal.sequence) == piece->seal.checksum;
    if (is_whole) last = std::max(last, piece->seal.sequence);
  };
  look(&request, record::kAtRequest);
  look(&reply, record::kAtReply);
  return last + 1;
}

std::string why_no_answer(const Reader& reader) {
  auto status = process_status(reader.head().pid);
  if (status && (status->state == 'T' || status->state == 't')) return "it is stopped";
  if (reader.head().has_thread == 0) {
    return "it allocates too little to look, as it has no thread for that; TALLY_RECORD_MS gives "
           "it "
           "one";
  }
  return "it hangs, or has no processor";
}

// The reply to it. Model: tests/model/record_model.cpp.
record::Reply send_request(Reader& reader, record::Request request) {
  if (!reader.is_live()) fail(reader, " has ended: nobody is left to be asked");
  const File file = open_locked(reader);
  const uint64_t sequence = next_sequence(file);
  request.seal = {sequence, record::seal_of(&request, sizeof request, sequence)};
  write(file, request, reader);
  record::Reply reply;
  if (wait_for([&] { return reader.has_reply(sequence, &reply) || !reader.is_live(); })) {
    if (reader.has_reply(sequence, &reply)) return reply;
    fail(reader, " ended before it answered");
  }
  // Not to be done when nobody expects it any more. Its number stays: the process may have seen it
  // after all, and its reply must not pass for one to the next.
  request = {};
  request.seal = {sequence, record::seal_of(&request, sizeof request, sequence)};
  write(file, request, reader);
  if (reader.has_reply(sequence, &reply)) return reply;
  fail(reader, " did not answer in 2 s, and is not asked any more: " + why_no_answer(reader));
}

// Likewise, without an error.
record::Reply require(Reader& reader, const record::Request& request, const char* what) {
  record::Reply reply = send_request(reader, request);
  if (reply.error != 0)
    fail(reader, std::string(" could not ") + what + ": " + strerror(reply.error));
  return reply;
}

}  // namespace

void request_limit(Reader& reader, const std::string& path, const LimitSettings& limit) {
  record::Request request = {};
  request.kind = record::RequestKind::kSetLimit;
  request.policy = static_cast<uint32_t>(limit.policy);
  request.soft = limit.soft;
  request.hard = limit.hard;
  memcpy(request.tag, path.c_str(), path.size() + 1);
  require(reader, request, "set the limit");
}

uint64_t request_trim(Reader& reader) {
  record::Request request = {};
  request.kind = record::RequestKind::kTrim;
  return require(reader, request, "trim").bytes;
}

}  // namespace tally::tool
