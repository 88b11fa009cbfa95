/* Tally: a malloc that knows where the memory went. The C interface.
 *
 * Every block belongs to one tag, and every byte is counted under it. A tag is a node of a tree,
 * named by a path:
 * "/", "/cache", "/cache/blocks". Memory that nobody tagged is the root's, "/".
 *
 * Unless a function says otherwise: it may be called from any thread; it returns 0, a valid tag or
 * a pointer when it succeeded; when it fails it returns -1, TALLY_TAG_NONE or NULL, sets errno and
 * changes nothing; errno is kept when it succeeds. Sizes are in bytes.
 *
 * A program may be linked with the functions alone (tally::api, libtally_api.a), and have the
 * allocator only where libtally.so is preloaded. Where it is not, tally_version is "", every path
 * is the root's, blocks and arenas are libc's, scopes are not counted, so that a pop too many goes
 * unnoticed, no limit can be set, and what asks for figures fails with ENOSYS. */
#ifndef TALLY_TALLY_H
#define TALLY_TALLY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TALLY_API __attribute__((visibility("default")))
#define TALLY_ALLOCATES(free_fn) __attribute__((malloc, warn_unused_result))
#define TALLY_SIZED(...) __attribute__((alloc_size(__VA_ARGS__)))
#else
#define TALLY_API
#define TALLY_ALLOCATES(free_fn)
#define TALLY_SIZED(...)
#endif

#if defined(__cplusplus)
#define TALLY_INLINE inline
#else
#define TALLY_INLINE static inline
#endif

/* The version of this header: of semantic versions (semver.org). */
#define TALLY_VERSION_MAJOR 1
/* As above. */
#define TALLY_VERSION_MINOR 0
/* As above. */
#define TALLY_VERSION_PATCH 0

/* "major.minor.patch" of the library that is running, which need not be the one that was compiled
 * against; "" where there is none (see above). Never freed. */
TALLY_API const char* tally_version(void);

/* ---- Tags */

/* A tag's id. Ids are small, and used again after a tag was retired and its last block freed. */
typedef uint32_t tally_tag;

#define TALLY_TAG_ROOT ((tally_tag)0)          /* "/": memory that nobody tagged */
#define TALLY_TAG_NONE ((tally_tag)0xffffffff) /* no tag: an error, or "keep the block's own" */
#define TALLY_TAG_MAX 65535                    /* tags at one time, the root included */
#define TALLY_TAG_PATH_MAX 255                 /* bytes of a path, without the final NUL */

/* The tag of this path, made if there is none yet, its parents too. "cache/blocks" and
 * "/cache/blocks" are the same;
 * "" and "/" are the root. The name is copied. A retired tag of that path that still holds blocks
 * is revived. "/tally" is Tally's own: it can be found and read, and takes no blocks of others.
 * errno: EINVAL (NULL, an empty component as in "a//b", a control character, below "/tally"),
 * ENAMETOOLONG (over TALLY_TAG_PATH_MAX), ENOSPC (TALLY_TAG_MAX tags exist), ENOMEM. Cost: a lock
 * and a look-up; keep the id. */
TALLY_API tally_tag tally_tag_create(const char* path);

/* As tally_tag_create, but never makes one. errno: ENOENT, and as above. */
TALLY_API tally_tag tally_tag_find(const char* path);

/* No new block shall carry this tag: pushing it and allocating under it fail with EINVAL. Where it
 * is pushed malloc goes on under its parent: the calling thread's from now on, others' from their
 * next push, pop or tally_tag_current at the latest. Its blocks stay valid and counted until they
 * are freed; realloc still keeps the tag. Its id is used again when the last block and child is
 * gone and the threads that used the tag have allocated or freed something, or ended. errno:
 * EINVAL (no such tag, or the root, or Tally's own). */
TALLY_API int tally_tag_retire(tally_tag tag);

/* Writes the tag's whole path to buf, at most n bytes with the final NUL, and returns the path's
 * length as snprintf does. errno: EINVAL with the result 0 (no such tag). Takes no lock. */
TALLY_API size_t tally_tag_name(tally_tag tag, char* buf, size_t n);

/* From here on this thread's allocations that name no tag of their own carry this one, until the
 * matching tally_tag_pop. Scopes nest to any depth up to 255. errno: EINVAL (no such tag, or
 * retired, or the thread is past its end), ENOSPC (too deep), ENOMEM. Cost: a few nanoseconds, no
 * lock. */
TALLY_API int tally_tag_push(tally_tag tag);

/* Ends the innermost scope of this thread. errno: EINVAL (none is open). */
TALLY_API int tally_tag_pop(void);

/* The tag that this thread's malloc uses now. Never fails. */
TALLY_API tally_tag tally_tag_current(void);

/* The tag of the live block that starts at p, or TALLY_TAG_NONE with EINVAL if p is not a block of
 * Tally's. Pointers to anywhere are safe: nothing that is not Tally's is read. */
TALLY_API tally_tag tally_tag_of(const void* p);

/* ---- Allocating under a tag */

/* malloc, calloc, realloc and aligned_alloc under this tag, whatever scope is open. The blocks are
 * given back by tally_free from any thread, and where Tally is the program's malloc (preloaded, or
 * linked as tally::malloc) by plain free as well. errno: ENOMEM, EINVAL (no such tag, retired, or
 * an alignment that is no power of two). */
TALLY_API void* tally_malloc(tally_tag tag, size_t size) TALLY_ALLOCATES(tally_free) TALLY_SIZED(2);
/* As above. */
TALLY_API void* tally_calloc(tally_tag tag, size_t count, size_t size) TALLY_ALLOCATES(tally_free)
    TALLY_SIZED(2, 3);
/* As above. */
TALLY_API void* tally_aligned_alloc(tally_tag tag, size_t alignment, size_t size)
    TALLY_ALLOCATES(tally_free) TALLY_SIZED(3);

/* realloc that moves the block to this tag; with TALLY_TAG_NONE the block keeps its own, as plain
 * realloc does. With p NULL it is tally_malloc (TALLY_TAG_NONE: the thread's tag); with size 0 it
 * frees p and returns NULL, as glibc does. When it fails, p is as before. */
TALLY_API void* tally_realloc(tally_tag tag, void* p, size_t size)
    __attribute__((warn_unused_result)) TALLY_SIZED(3);

/* Gives a block back, whichever thread allocated it; it is counted as freed under its own tag. NULL
 * is ignored; errno is kept. */
TALLY_API void tally_free(void* p);

/* The bytes that may be used at p, at least what was asked for, and the same for the block's life;
 * 0 for NULL. */
TALLY_API size_t tally_usable_size(const void* p);

/* Returns to the operating system what is free, now instead of after TALLY_PURGE_MS. Returns 1 if
 * memory went back, 0 if there was none. */
TALLY_API int tally_trim(void);

/* ---- Limits */

/* A tag may be given a hard limit, a soft one, or both. What counts against them is what the tag
 * and everything below it hold: `total.footprint_bytes` of its statistics. Memory is counted where
 * a slab or a large block is taken for the tag, for the tag and all above it or for none, so that
 * no tag ever holds more than its hard limit, not for an instant. The limit of the root, "/", is
 * that of the process, Tally's own tables included.
 *
 * When a hard limit refuses, these are tried in turn: to collect what the tag holds and does not
 * use (what other threads freed, empty slabs, what this thread has in hand); the tag's pressure
 * callbacks; and last the policy. TALLY_LIMIT, TALLY_LIMITS, TALLY_RESERVE and TALLY_LOG of the
 * environment do the same from outside: docs/LIMITS.md. */

#define TALLY_LIMIT_NONE UINT64_MAX

/* What becomes of an allocation that a hard limit refuses and nothing helped. */
typedef uint64_t tally_policy;
/* It fails, as where there is no memory: NULL with ENOMEM, the new_handler and std::bad_alloc. */
#define TALLY_POLICY_FAIL ((tally_policy)0)
/* A line and the table of tags and classes are written, and abort is called. */
#define TALLY_POLICY_ABORT ((tally_policy)1)
/* It waits for memory of the tag to come back, for so many milliseconds at most, then fails. The
 * thread holds what the program's code around it holds: its locks too. */
#define TALLY_POLICY_WAIT(ms) ((tally_policy)2 | (tally_policy)(uint32_t)(ms) << 8)

/* Sets the tag's limits, in bytes, and the policy at its hard limit; TALLY_LIMIT_NONE: no limit.
 * May be done at any time, from a callback too. A limit below what is held takes nothing away: no
 * more is given until it fits. A hard limit of 0 lets the tag allocate nothing. The last 64 KiB
 * below the limit (TALLY_RESERVE, at most a sixteenth of it) are for small blocks of who handles a
 * failure. errno: EINVAL (no such tag, or Tally's own; soft above hard; no such policy). Cost: a
 * lock. */
TALLY_API int tally_limit_set(tally_tag tag, uint64_t soft, uint64_t hard, tally_policy policy);

/* The tag's own limits, whatever holds above it; each pointer may be NULL. errno: EINVAL. */
TALLY_API int tally_limit_get(tally_tag tag, uint64_t* soft, uint64_t* hard, tally_policy* policy);

/* How near a tag is to its limits. SOFT: it holds more than its soft limit, or did and holds 15/16
 * of it still. HARD: its hard limit refused, and it holds 15/16 of it still. */
#define TALLY_PRESSURE_NORMAL 0
#define TALLY_PRESSURE_SOFT 1 /* as said there */
#define TALLY_PRESSURE_HARD 2 /* as said there */

/* The highest level of the tag and those above it; NORMAL if there is no such tag. Takes no lock.
 * Cost: a few nanoseconds. */
TALLY_API int tally_pressure(tally_tag tag);

/* Called when tally_pressure(tag) changes: `level` is one of the above, NORMAL or SOFT also when it
 * fell to that, whether by the tag's own limit or by one above it. A level is told once, not for as
 * long as it lasts: who evicts, evicts to a budget of his own, well below the limit, as what he
 * frees shows when whole pages are free.
 *
 * It runs on the thread that allocated or freed, before that call returns, under no lock of
 * Tally's, and never while another callback runs on the thread; at a thread's end after its
 * thread_local destructors. It may allocate, free, push tags, set limits and fork. It must return:
 * no exception may leave it (the C++ runtime then calls std::terminate), no longjmp, no
 * pthread_exit. The thread cannot be cancelled in it. */
typedef void (*tally_pressure_fn)(tally_tag tag, int level, void* arg);

/* How a callback is to be called. */
typedef struct tally_pressure_options {
  uint32_t size;        /* set to sizeof(tally_pressure_options) */
  uint32_t levels;      /* bits 1 << TALLY_PRESSURE_...: of which to be told; 0: of all */
  uint32_t interval_ms; /* from one rise of the level to the next at least; what comes earlier is
                           told then, if it still holds. 0: 10 */
} tally_pressure_options;

/* Has `fn` called on the tag's changes of level; `options` may be NULL. Those of one tag are called
 * in the order of registration. When the hard limit refuses, all that are told of HARD are called,
 * whatever their interval, and the allocation is tried again. A tag's callbacks go with it when it
 * is retired and empty. errno: EINVAL (no such tag, or retired; fn NULL; options), ENOMEM. */
TALLY_API int tally_on_pressure(tally_tag tag, tally_pressure_fn fn, void* arg,
                                const tally_pressure_options* options);

/* Ends that. When it returns no other thread is in a call of fn with this arg for this tag; so the
 * caller must hold no lock that fn waits for, and two callbacks must not end each other's. errno:
 * ENOENT (there is no such), EINVAL (no such tag). */
TALLY_API int tally_off_pressure(tally_tag tag, tally_pressure_fn fn, void* arg);

/* Counts memory that Tally did not allocate (a mapping, a device's) as the tag's: in its
 * statistics, against its limits, with the same policies and callbacks. errno: ENOMEM (a limit
 * refuses; nothing is counted), EINVAL (no such tag, or retired). */
TALLY_API int tally_charge(tally_tag tag, size_t bytes);

/* Takes that back. errno: ERANGE (more than is charged; nothing is changed), EINVAL (no such tag).
 */
TALLY_API int tally_uncharge(tally_tag tag, size_t bytes);

/* ---- Statistics */

/* Exact when no thread is in the middle of an operation. While threads run, live figures are off by
 * at most what they are doing during the walk; never negative, never above the footprint;
 * free_count may step back by as much. Nothing here allocates from the heap it describes, nor takes
 * a lock that an allocating thread needs: it may be called from a signal handler. While a thread
 * gives back what nobody has asked for lately, a reading waits, and begins anew: so that figures of
 * a program at rest stay as they are. That takes 0.15 s at most, and microseconds as a rule.
 *
 * Structs begin with their size and version, so that they can grow: a field that the caller's
 * struct is too short for is not written. */

#define TALLY_STATS_VERSION 3

/* What one tag holds. */
typedef struct tally_counts {
  uint64_t live_bytes;      /* sum of the sizes of the blocks not freed */
  uint64_t live_blocks;     /* how many they are */
  uint64_t footprint_bytes; /* bytes of the slabs and large blocks that hold them; >= live_bytes */
  uint64_t peak_footprint_bytes; /* the most that footprint_bytes ever was, exact */
  uint64_t alloc_count;          /* blocks ever allocated */
  uint64_t free_count;           /* blocks ever freed; alloc_count - live_blocks */
  uint64_t requested_bytes;      /* what callers ever asked for, cumulative */
  uint64_t large_live_bytes;     /* of live_bytes: blocks too large for a slab */
  uint64_t large_live_blocks;    /* of live_blocks, likewise */
  uint64_t charged_bytes;        /* of live_bytes and footprint_bytes: by tally_charge */
} tally_counts;

/* One tag. */
typedef struct tally_stats_t {
  uint32_t size;      /* set by the caller to sizeof(tally_stats_t) before tally_stats */
  uint32_t version;   /* TALLY_STATS_VERSION of the library */
  uint32_t id;        /* the tag */
  uint32_t parent;    /* TALLY_TAG_NONE for the root */
  tally_counts own;   /* the tag alone */
  tally_counts total; /* the tag and everything below it */
  const char* name;   /* the whole path; in a snapshot valid as long as it, from tally_stats as long
                         as the tag */
  uint32_t retired;   /* 1 after tally_tag_retire */
  uint32_t pressure;  /* TALLY_PRESSURE_... of the tag itself */
  uint64_t soft_limit_bytes; /* TALLY_LIMIT_NONE: none */
  uint64_t hard_limit_bytes; /* likewise */
  uint64_t pressure_ms;      /* time that the level was not normal */
  uint64_t pressure_count;   /* how often it rose from normal */
  uint64_t refused_count;    /* allocations and charges that failed for its hard limit */
  uint64_t waited_count;     /* and those that waited for it first */
} tally_stats_t;

/* Of tally_class_stats_t: in how many steps the fill of slabs is told. */
#define TALLY_FILL_STEPS 10

/* The blocks of one size under one tag: where fragmentation is. A block counts as in use in its
 * slab until its thread gave it back there: what threads have in hand is used in `fill` and what
 * follows it, and is not live. */
typedef struct tally_class_stats_t {
  uint32_t tag;             /* whose they are */
  uint32_t block_size;      /* "size" in the JSON */
  uint64_t live_blocks;     /* in use */
  uint64_t capacity_blocks; /* that the committed part of its slabs has room for */
  uint64_t slabs;           /* slabs of this size under this tag */
  uint64_t footprint_bytes; /* bytes committed in them */
  uint64_t alloc_count;     /* blocks ever allocated by heaps that still are; with the next the mean
                               of what was asked for */
  uint64_t requested_bytes; /* bytes asked for in those */
  uint64_t empty_bytes;     /* of footprint_bytes: slabs that hold no block, kept for a while */
  uint64_t sparse_slabs;    /* slabs that hold blocks, in at most a quarter of their capacity */
  uint64_t sparse_free_bytes; /* of free blocks in those: what comes back if they empty, and more */
  uint64_t fill[TALLY_FILL_STEPS]; /* slabs by the part of their capacity that is in use: [0] less
                                      than a tenth, [9] nine tenths and more */
} tally_class_stats_t;

/* The process. */
typedef struct tally_process_stats_t {
  uint64_t rss_bytes;       /* resident, from the kernel; 0 if it does not say */
  uint64_t live_bytes;      /* sum over all tags, Tally's own tag "/tally" included */
  uint64_t footprint_bytes; /* likewise */
  uint64_t mapped_bytes;    /* address space taken: from the backend, and for metadata */
  uint64_t metadata_bytes;  /* of footprint_bytes: Tally's own tables, the footprint of "/tally" */
  uint64_t foreign_frees; /* calls with a pointer that is not ours, where TALLY_ON_CORRUPTION=report
                             lets the program live on */
  uint64_t backend_bytes; /* of mapped_bytes: taken from the backend and not given back */
  uint64_t backend_chunks; /* chunks of 4 MiB, from whatever backend; they are never given back */
  uint64_t
      backend_surplus_bytes; /* what the backend holds beyond backend_bytes, for itself or for
                                later, as of a second of activity ago or less: of libc and mimalloc
                                address space, of jemalloc resident; 0 if it does not tell */
} tally_process_stats_t;

/* Everything at one time. */
typedef struct tally_snapshot_t {
  uint32_t size;             /* of this struct in the library */
  uint32_t version;          /* TALLY_STATS_VERSION of the library */
  int64_t pid;               /* the process */
  const char* backend;       /* "os", "libc", "jemalloc", "mimalloc" */
  uint64_t tag_count;        /* rows in tags, by path */
  const tally_stats_t* tags; /* the rows */
  uint64_t class_count;      /* rows in classes, by tag's path, then size; only those with a slab */
  const tally_class_stats_t* classes; /* the rows */
  tally_process_stats_t process;      /* last, as it may grow; the rows keep their size */
} tally_snapshot_t;

/* Fills *stats for one tag. Set stats->size first. errno: EINVAL (no such tag, NULL, a size too
 * small to hold the head). Cost: a walk over the slabs' descriptors, under a millisecond a GiB of
 * heap. */
TALLY_API int tally_stats(tally_tag tag, tally_stats_t* stats);

/* Everything at once, in memory mapped for it alone; release it by tally_snapshot_free. NULL with
 * ENOMEM. */
TALLY_API tally_snapshot_t* tally_snapshot(void);
/* Releases it; NULL is ignored. */
TALLY_API void tally_snapshot_free(tally_snapshot_t* snapshot);

/* A snapshot as JSON, or as a table for people: into buf, at most n bytes with the final NUL,
 * returning the length of the whole as snprintf does (0 with ENOMEM); or to a file descriptor (-1
 * with errno of write). */
TALLY_API size_t tally_snapshot_json(char* buf, size_t n);
/* As above. */
TALLY_API size_t tally_snapshot_text(char* buf, size_t n);
/* As above. */
TALLY_API int tally_snapshot_json_fd(int fd);
/* As above. */
TALLY_API int tally_snapshot_text_fd(int fd);

/* ---- Arenas */

/* An arena hands out memory by moving a pointer, and takes it back all at once: by a reset, or by a
 * rewind to a mark. What it holds are blocks of the heap under its tag ("segments"), counted and
 * limited as any other; they double in size up to a cap, and what is too large for one has a
 * segment for itself.
 *
 * An arena is for one thread at a time; which one may change from call to call, if the program
 * orders the calls. A pressure callback that runs in a call for an arena must not use that arena.
 * When its tag is retired what an arena holds stays valid, and it may be rewound, reset and
 * destroyed; it takes no more segments (EINVAL) until the tag is revived.
 * A pointer to no arena is not recognised: NULL may be destroyed, and nothing else.
 *
 * Under AddressSanitizer what is not handed out is poisoned: a use of memory from before a reset or
 * a rewind is reported. In a Tally built with TALLY_CHECKS it is filled with 0xdd. */

/* The two fields are private; they are here for tally_arena_alloc. Pointers to what is no type of
 * anybody's: the compiler may keep them in registers while the program writes to its blocks. */
typedef struct tally_arena {
  struct tally_arena_place* cursor; /* where the next block may begin */
  struct tally_arena_place* end;    /* and how far it may reach without a call */
} tally_arena;

/* Zero in a field, or no options: what is said there. Bytes of segments include their head, 32
 * bytes. */
typedef struct tally_arena_options {
  uint32_t size;      /* set to sizeof(tally_arena_options) */
  size_t first_bytes; /* the first segment, rounded up to a power of two, at least 128; 0: 4 KiB, or
                         most_bytes if that is less. It is taken with the first allocation */
  size_t most_bytes; /* where doubling ends, rounded likewise; 0: 256 KiB, or first_bytes if that is
                        more. What needs more than a quarter of it, and finds no room, has a
                        segment for itself */
  size_t keep_bytes; /* what a reset or a rewind keeps at most, for what comes next, as one segment
                        (what had one for itself goes), rounded down to a power of two;
                        0: 256 KiB; 1: nothing; SIZE_MAX: no bound */
} tally_arena_options;

/* A new arena whose memory is the tag's, its own descriptor included. `options` may be NULL. errno:
 * EINVAL (no such tag, or retired; options->size too small, first_bytes above most_bytes, either
 * above a quarter of PTRDIFF_MAX), ENOMEM. Cost: an allocation. */
TALLY_API tally_arena* tally_arena_create(tally_tag tag, const tally_arena_options* options)
    __attribute__((warn_unused_result));

/* Gives back all that the arena holds, and itself. NULL is ignored; errno is kept. Cost: a free for
 * each segment. */
TALLY_API void tally_arena_destroy(tally_arena* arena);

/* Private: the segment's next block, or NULL if tally_arena_alloc_slow is to decide. */
TALLY_INLINE void* tally_arena_bump(tally_arena* arena, size_t size, size_t alignment) {
  /* A power of two, and no other number, has more bits set here than there are below it. */
  int sound = (alignment ^ (alignment - 1)) > alignment - 1;
  /* The cursor is a multiple of 8, so that as a rule the next block depends on this one by a single
   * addition. */
  uintptr_t cursor = (uintptr_t)arena->cursor;
  uintptr_t start =
      alignment <= 8 ? cursor : (cursor + (alignment - 1)) & ~(uintptr_t)(alignment - 1);
  /* Below the bound no sum wraps; 0 is above it. Of what is constant nothing remains. */
  uintptr_t after = start + ((size + 7) & ~(size_t)7);
  if (__builtin_expect(sound && size - 1 < PTRDIFF_MAX / 2 && after <= (uintptr_t)arena->end, 1)) {
    if (start == 0) __builtin_unreachable();
    arena->cursor = (struct tally_arena_place*)after;
    return (void*)start;
  }
  return NULL;
}
/* Private: what tally_arena_alloc does where there is no room. */
TALLY_API void* tally_arena_alloc_slow(tally_arena* arena, size_t size, size_t alignment)
    __attribute__((cold, warn_unused_result));

/* A block of `size` bytes, aligned to `alignment`, a power of two, and to 8 at least; its content
 * is indeterminate. 0 bytes give a pointer as well, and like all of them one that no other block
 * has. It is never freed by itself. When it fails the arena is as before, and may be used. errno:
 * EINVAL (the alignment is 0 or no power of two; the tag is retired and the arena would have to
 * grow), ENOMEM (no memory, a limit of the tag, a size that nothing can have). Cost: four
 * instructions, inline, where the size is a constant, else about ten; now and then an allocation.
 */
TALLY_INLINE __attribute__((warn_unused_result)) void* tally_arena_alloc(tally_arena* arena,
                                                                         size_t size,
                                                                         size_t alignment) {
  void* p = tally_arena_bump(arena, size, alignment);
  return __builtin_expect(p != NULL, 1) ? p : tally_arena_alloc_slow(arena, size, alignment);
}

/* A place to rewind to. Marks nest: each holds until the arena is rewound to an earlier one, or
 * reset, or destroyed. No two are the same, of whatever arena, unless nothing was allocated between
 * them. */
typedef uint64_t tally_mark;
#define TALLY_MARK_NONE ((tally_mark)0) /* no mark: of a mark that could not be set */

/* Marks what has been allocated so far. TALLY_MARK_NONE when it fails: it takes 32 bytes of the
 * arena, so errno is that of tally_arena_alloc. */
TALLY_API tally_mark tally_arena_mark(tally_arena* arena) __attribute__((warn_unused_result));

/* Takes back all that was allocated since the mark; the mark still holds, and may be rewound to
 * again. errno: EINVAL (the mark does not hold any more, is another arena's, or none). Cost: a step
 * for each segment and each mark since. */
TALLY_API int tally_arena_rewind(tally_arena* arena, tally_mark mark);

/* Takes back everything; no mark holds any more. One segment of at most keep_bytes stays, as long
 * as all that was used, if that fits: who uses about as much each time, up to keep_bytes, comes to
 * call the heap no more. errno is kept. Cost: a step for each segment, however many the blocks. */
TALLY_API void tally_arena_reset(tally_arena* arena);

/* What one arena holds. */
typedef struct tally_arena_stats_t {
  uint32_t size;                /* set by the caller to sizeof(tally_arena_stats_t) */
  tally_tag tag;                /* whose memory it is */
  uint64_t used_bytes;          /* handed out, with the padding between and 32 a mark */
  uint64_t peak_used_bytes;     /* the most that was */
  uint64_t waste_bytes;         /* left over where a block did not fit, or in its own segment */
  uint64_t reserved_bytes;      /* live_bytes of the tag that are the arena's, all included */
  uint64_t peak_reserved_bytes; /* the most that was */
  uint64_t segment_count;       /* held now, one that is kept included */
  uint64_t segments_taken;      /* from the heap, ever: stands still when a reset keeps enough */
} tally_arena_stats_t;

/* Fills *stats; set stats->size first. As with other structs, fields that it is too short for are
 * not written. errno: EINVAL (NULL, a size too small to hold the tag). Cost: no lock, no walk. */
TALLY_API int tally_arena_stats(const tally_arena* arena, tally_arena_stats_t* stats);

#ifdef __cplusplus
}
#endif
#endif
