// The record: a file in shared memory that tells what a process held, while it runs, when it hangs,
// and after it was killed. This header is its one description: the library writes by it
// (record/writer.h), and the program `tally` reads by it.
//
//   Head      once, when the file is made; its magic last
//   Frame x2  everything at one moment, written in turn: one of the two is always whole
//   names     paths of tags, where they stay while frames have them; see below
//   Point x   what was held when: a ring of the last publications, and one of the last minutes
//   Event x   what happened at limits, a ring
//   Request   from outside: what the process is asked to do
//   Reply     what became of it
//   texts     of the sampled heap profile: paths of tags and of modules. As names, but other ones
//   modules   what the frames of sampled stacks lie in, appended to and never changed
//   calls     those frames, as a tree, appended to and never changed
//   Profile x2  the sampled heap profile at one moment, written in turn as frames are
//
// The process never maps the file: it writes by pwrite and reads the request by pread, so that
// nothing that another writer does to it, truncation included, can reach the process. Whatever is
// written in one piece begins with a sequence number and a checksum of the rest, so that who reads
// it half written knows that, and takes the one before it. The writer holds a lock on the whole
// file (flock, exclusive) as long as it lives: a file that can be locked is a dead process's.
//
// Names: a name begins at a cell, and `since` of that cell is the publication (the sequence of a
// frame) that it was put there for. Where the two last frames have no use for a name another is
// put in its place. So a piece of publication n has the name that its offset leads to if
// since[offset / kNameCell] <= n, and else that name is gone: of points of long ago, and of a frame
// if its reader was slow, who then reads the newest one. For this to hold, the writer changes
// `since` before the name, and both before the frame; and a reader reads the name after the piece
// and before `since`. Texts are to profiles what names are to frames.
//
// All numbers are in the byte order of the machine; times are nanoseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tally/tally.h"

namespace tally::record {

inline constexpr char kMagic[8] = {'T', 'A', 'L', 'L', 'Y', 'R', 'E', 'C'};
inline constexpr uint32_t kVersion = 2;

// FOLDER/<pid>.tally, where FOLDER is kFolderPrefix and the user's id, mode 0700.
inline constexpr char kFolderPrefix[] = "/dev/shm/tally-";
inline constexpr char kSuffix[] = ".tally";
// So many files of dead processes are kept, the newest.
inline constexpr unsigned kDeadKept = 16;

inline constexpr size_t kTagsMax = 2048;
inline constexpr size_t kClassesMax = 8192;
inline constexpr size_t kRangesMax = 1024;
inline constexpr size_t kNamesBytes = 512 * 1024;
inline constexpr size_t kNameCell = 32;
inline constexpr size_t kNameCells = kNamesBytes / kNameCell;
inline constexpr size_t kPointTagsMax = 60;
inline constexpr size_t kRecentPoints = 600;
inline constexpr size_t kMinutePoints = 1440;
inline constexpr size_t kEventsMax = 256;
inline constexpr size_t kModulesMax = 1024;
inline constexpr size_t kCallsMax = 64 * 1024;
inline constexpr size_t kSitesMax = 8192;
inline constexpr size_t kSamplesMax = 16 * 1024;

// What every piece begins with.
struct Seal {
  uint64_t sequence;  // from 1, one more with each piece of its kind; 0: never written
  uint64_t checksum;  // of the sequence and of all that follows the seal
};

// Of `bytes`, a multiple of 8, eight at a time: fast enough to seal a frame in a fraction of the
// walk. Against torn writes, not against malice: what a reader takes from a file it checks anyway.
inline uint64_t checksum(uint64_t sequence, const void* data, size_t bytes) {
  constexpr uint64_t kPrime = 0x9e3779b97f4a7c15;
  uint64_t sum[4] = {sequence, kPrime, sequence ^ kPrime, bytes};
  const char* at = static_cast<const char*>(data);
  for (size_t i = 0; i < bytes / 8; ++i) {
    uint64_t word;
    memcpy(&word, at + i * 8, 8);
    uint64_t mixed = (sum[i % 4] ^ word) * kPrime;
    sum[i % 4] = mixed ^ mixed >> 29;
  }
  uint64_t all = 0;
  for (uint64_t one : sum) all = (all ^ one) * kPrime ^ all >> 31;
  return all;
}

struct Head {
  char magic[8];  // written last
  uint32_t version;
  uint32_t bytes;       // sizeof(Head)
  uint64_t checksum;    // record::checksum(0, ...) of all that follows this field
  uint64_t file_bytes;  // kFileBytes
  int64_t pid;          // in the process's own namespace
  uint32_t uid;         // effective, when the file was made
  uint32_t page_size;
  int64_t created;       // of the file: CLOCK_REALTIME
  uint32_t interval_ms;  // between publications, at most when it is busy
  uint32_t has_thread;   // 1: a thread of Tally's publishes, also while the program is idle
  char tally_version[24];
  char backend[16];
  char tag_by[16];         // "none", "module", "thread"
  char executable[512];    // path, cut if longer
  uint32_t command_bytes;  // of `command`
  uint32_t unused;
  char command[4096];  // arguments, each with its NUL; cut if longer
};

// What the process consists of, in bytes. RSS is the sum of the parts, as far as each is resident:
//
//   rss = live + in_slabs + empty_slabs + dirty + kept + metadata + recorder - untouched
//         + backend_surplus + shared + other
//
// `other` (stacks, data of programs and libraries, mappings of their own) is what is left; a reader
// of a process that runs can measure it.
struct Ledger {
  uint64_t rss;              // from the kernel
  uint64_t shared;           // of it: files and shared memory, from the kernel
  uint64_t live;             // blocks in use, of all tags but /tally; without what was charged
  uint64_t rounding;         // of live: estimate of what callers did not ask for
  uint64_t in_slabs;         // free blocks in slabs in use, and ends that no block fits in
  uint64_t empty_slabs;      // slabs that hold no block, kept for a while
  uint64_t dirty;            // free runs whose pages were not given back yet
  uint64_t kept;             // freed spans that were not given back yet
  uint64_t metadata;         // footprint of /tally
  uint64_t recorder;         // memory of this process for the record
  uint64_t untouched;        // of live: pages of large blocks that nobody wrote to yet
  uint64_t backend_surplus;  // what the backend holds for itself, if it tells what is resident
  uint64_t charged;          // by tally_charge: counted under tags, but not heap
  uint64_t mapped;           // address space taken
};

struct TagRow {
  uint32_t id;
  uint32_t parent;    // id; TALLY_TAG_NONE for the root
  uint32_t name;      // offset in the names: the whole path
  uint32_t retired;   // 1
  uint32_t pressure;  // TALLY_PRESSURE_...
  uint32_t unused;
  uint64_t soft_limit;  // TALLY_LIMIT_NONE: none
  uint64_t hard_limit;
  uint64_t pressure_ms;
  uint64_t pressure_count;
  uint64_t refused_count;
  uint64_t waited_count;
  tally_counts own;
  tally_counts total;
};

inline constexpr unsigned kFillSteps = 10;

struct ClassRow {
  uint32_t tag;  // id
  uint32_t block_size;
  uint64_t live_blocks;
  uint64_t capacity_blocks;  // that committed memory has room for
  uint64_t footprint;
  uint64_t allocs;     // ever, while heaps lived that still do; with `requested` it gives the mean
  uint64_t requested;  // bytes asked for in those
  uint32_t slabs;
  // Slabs by the part of their capacity that is in use: fill[i] those from i to i + 1 tenths, full
  // ones in the last.
  uint32_t fill[kFillSteps];
  uint32_t sparse_slabs;  // of them: those that hold blocks, in at most a quarter of it
  uint64_t sparse_free;   // bytes of free blocks in those
};

// Address space of the heap: chunks, spans and metadata, neighbours joined.
struct Range {
  uint64_t start;
  uint64_t end;
};

struct FrameHead {
  Seal seal;
  uint64_t bytes;        // of the frame: this head, then tag rows, class rows, ranges
  int64_t time;          // CLOCK_REALTIME at the end of the walk
  uint64_t uptime;       // CLOCK_MONOTONIC then
  uint64_t walk;         // how long that took
  uint32_t names_bytes;  // that names were ever written to
  uint32_t tag_count;
  uint32_t class_count;
  uint32_t range_count;
  // What there was no room for. Of tags the smallest are left out, and their classes.
  uint32_t tags_left_out;
  uint32_t classes_left_out;
  uint32_t ranges_left_out;
  uint32_t is_last;  // 1: the process ended by exit or return from main, and left the file
  uint64_t foreign_frees;
  Ledger ledger;
};

inline constexpr size_t kFrameBytes = sizeof(FrameHead) + kTagsMax * sizeof(TagRow) +
                                      kClassesMax * sizeof(ClassRow) + kRangesMax * sizeof(Range);

struct PointTag {
  uint32_t name;  // offset in the names
  uint32_t live_kib;
  uint32_t footprint_kib;
};

// The tags with the largest footprints of their own, largest first.
struct Point {
  Seal seal;       // of the ring: the entry is sequence % entries
  uint64_t frame;  // sequence of the one of this moment, which tells whether names are still there
  int64_t time;
  uint64_t rss;
  uint64_t live;
  uint64_t footprint;
  uint32_t tag_count;
  uint32_t unused;
  PointTag tags[kPointTagsMax];
};

enum class EventKind : uint32_t {
  kSoft = 1,      // above its soft limit
  kFailed = 2,    // refused by its hard limit
  kWaits = 3,     // likewise, and a thread waits
  kAborts = 4,    // likewise, and the program ends
  kLimitSet = 5,  // from outside, by a Request
};

struct Event {
  Seal seal;  // as Point's
  int64_t time;
  EventKind kind;
  uint32_t unused;
  uint64_t asked;  // 0 where nothing was
  uint64_t held;   // footprint, with all below
  uint64_t soft;   // TALLY_LIMIT_NONE: none
  uint64_t hard;
  uint64_t left_out;                 // events of this tag since the last that was written
  char tag[TALLY_TAG_PATH_MAX + 1];  // its path, with NUL
};

enum class RequestKind : uint32_t {
  kNone = 0,      // withdrawn: there is nothing to do, but its number is used
  kSetLimit = 1,  // as tally_limit_set; the tag is made if there is none
  kTrim = 2,      // as tally_trim
};

// Written by whoever has the lock (fcntl, OFD) on these bytes, until the reply has its sequence.
struct Request {
  Seal seal;
  RequestKind kind;
  uint32_t policy;  // TALLY_POLICY_...
  uint64_t soft;
  uint64_t hard;
  char tag[TALLY_TAG_PATH_MAX + 1];  // with NUL
};

struct Reply {
  Seal seal;      // the request's sequence
  int32_t error;  // an errno, or 0
  uint32_t unused;
  uint64_t bytes;  // kTrim: that went back
};

// ---- The sampled heap profile. All zero where TALLY_SAMPLE is off.
//
// A sample is a block at which a Poisson process along the allocated bytes had a point, so that one
// of `bytes` (block size) is taken with probability 1 - exp(-bytes / rate), and stands for the
// reciprocal of that many blocks: weight_of. Sums of weights estimate counts, of weights times
// sizes bytes, both without bias.

// A mapped ELF file. (A library that was unmapped keeps its entry: the next one at that place gets
// its own.)
struct Module {
  uint64_t start;  // of its segments in the process
  uint64_t end;
  uint64_t bias;  // address in the process less that in the file's program headers
  uint32_t path;  // offset in the texts; of the program itself its executable's path
  uint32_t build_id_bytes;
  uint8_t build_id[32];
};

// A frame of a stack, by its return address. Entry 0 is the root, which no frame is; a stack is the
// index of its innermost call.
struct Call {
  uint64_t address;  // of the instruction after the call
  uint32_t caller;   // index, less than its own; 0: the outermost, or the stack was cut there
  uint32_t module;   // index; kNoModule: code of no file, such as a compiler's at run time
};
inline constexpr uint32_t kNoModule = ~0U;

// Until when a sampled block lived: lifetimes[i] are estimated blocks freed before kLifetimes[i],
// and not before the one before it; the last ones lived longer than all.
inline constexpr uint64_t kLifetimes[] = {
    1000000,         // 1 ms
    10000000,        // 10 ms
    100000000,       // 100 ms
    1000000000,      // 1 s
    10000000000,     // 10 s
    60000000000,     // 1 min
    600000000000,    // 10 min
    3600000000000,   // 1 h
    86400000000000,  // 1 day
};
inline constexpr size_t kLifetimeSteps = sizeof kLifetimes / sizeof *kLifetimes + 1;

// An estimate.
struct Amount {
  uint64_t objects;
  uint64_t bytes;  // of blocks, as the tags' live bytes count them
};

// All samples of one stack and one tag.
struct Site {
  uint32_t call;     // index: the innermost call; 0: unknown
  uint32_t tag;      // offset of its path in the texts
  Amount allocated;  // since sampling began
  Amount live;       // the sum over its samples below
  Amount peak;       // live at the footprint's peak
  Amount mark;       // live at the mark, see ProfileHead
  uint64_t lifetimes[kLifetimeSteps];
};

struct Sample {
  uint32_t site;    // index in this Profile
  uint32_t thread;  // that allocated it, as gettid tells
  uint64_t bytes;   // block size
  uint64_t requested;
  int64_t time;  // CLOCK_REALTIME of the allocation
};

struct ProfileHead {
  Seal seal;
  uint64_t bytes;  // of the profile: this head, then sites, then samples
  int64_t time;    // CLOCK_REALTIME
  int64_t begun;   // of sampling
  uint64_t rate;   // bytes between samples in the mean; of the live ones: it grows, and they are
                   // thinned out, before there is no room for them
  uint64_t taken;  // samples, ever
  uint64_t lost;   // of them, for want of memory or room for their site: they are in no sum
  uint64_t peak_footprint;
  int64_t peak_time;
  int64_t mark_time;  // somewhere between 1/2 and 3/4 of the time back to `begun`: what is live now
                      // and was not then is growth
  uint32_t call_count;    // of those that are written, with the root
  uint32_t module_count;  // likewise
  uint32_t texts_bytes;   // that texts were ever written to
  uint32_t site_count;
  uint32_t sample_count;
  uint32_t cut;  // stacks whose innermost frames there was no room for in the calls
};

inline constexpr size_t kProfileBytes =
    sizeof(ProfileHead) + kSitesMax * sizeof(Site) + kSamplesMax * sizeof(Sample);

// ---- Where they lie.

constexpr uint64_t in_pages(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }
inline constexpr uint64_t kAtFrame[2] = {in_pages(sizeof(Head)),
                                         in_pages(sizeof(Head)) + in_pages(kFrameBytes)};
inline constexpr uint64_t kAtNames = kAtFrame[1] + in_pages(kFrameBytes);
// The names, and behind them `since` of each cell.
inline constexpr uint64_t kNamesAndSince = kNamesBytes + kNameCells * sizeof(uint64_t);
inline constexpr uint64_t kAtRecent = kAtNames + kNamesAndSince;
inline constexpr uint64_t kAtMinutes = kAtRecent + in_pages(kRecentPoints * sizeof(Point));
inline constexpr uint64_t kAtEvents = kAtMinutes + in_pages(kMinutePoints * sizeof(Point));
inline constexpr uint64_t kAtRequest = kAtEvents + in_pages(kEventsMax * sizeof(Event));
inline constexpr uint64_t kAtReply = kAtRequest + in_pages(sizeof(Request));
inline constexpr uint64_t kAtTexts = kAtReply + in_pages(sizeof(Reply));
inline constexpr uint64_t kAtModules = kAtTexts + kNamesAndSince;
inline constexpr uint64_t kAtCalls = kAtModules + in_pages(kModulesMax * sizeof(Module));
inline constexpr uint64_t kAtProfile[2] = {
    kAtCalls + in_pages(kCallsMax * sizeof(Call)),
    kAtCalls + in_pages(kCallsMax * sizeof(Call)) + in_pages(kProfileBytes)};
inline constexpr uint64_t kFileBytes = kAtProfile[1] + in_pages(kProfileBytes);

// The seal of a piece in memory: of the `bytes` from its seal on.
inline uint64_t seal_of(const void* piece, size_t bytes, uint64_t sequence) {
  return checksum(sequence, static_cast<const char*>(piece) + sizeof(Seal), bytes - sizeof(Seal));
}

static_assert(sizeof(Head) % 8 == 0 && offsetof(Head, checksum) == 16);
static_assert(sizeof(TagRow) == 232 && sizeof(ClassRow) == 104 && sizeof(Range) == 16);
static_assert(sizeof(FrameHead) == 200 && sizeof(Point) == 784 && sizeof(Event) == 328);
static_assert(sizeof(Request) == 296 && sizeof(Reply) == 32);
static_assert(sizeof(Module) == 64 && sizeof(Call) == 16 && sizeof(Site) == 152);
static_assert(sizeof(Sample) == 32 && sizeof(ProfileHead) == 112);
static_assert(kFileBytes < 11 * 1024 * 1024, "bounded, whatever the program does");

}  // namespace tally::record
