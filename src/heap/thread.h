// Threads' beginnings and ends, and the heaps they get.
#pragma once

#include "heap/heap.h"

namespace tally::core {

// The thread that runs, made known to the allocator if it is not yet. After its end (late
// destructors of other libraries) it borrows an orphan for the time of one call, so that nothing is
// left behind.
class RunningThread {
 public:
  RunningThread();
  ~RunningThread();
  RunningThread(const RunningThread&) = delete;
  RunningThread& operator=(const RunningThread&) = delete;

  // nullptr: no memory.
  Thread* get() const { return thread_; }
  bool is_borrowed() const { return borrowed_; }
  // The heap of the tag that is in force, by module where that decides; nullptr: no memory.
  Heap* current_heap(const void* caller) const;
  // The heap for this tag, of which the caller holds a block; nullptr: no memory.
  Heap* heap_of_block(Tag* tag) const;
  // The heap for this tag if there is one or may be one: never for a tag that is retired.
  Heap* heap_if_live(Tag* tag) const;

 private:
  void follow_name();

  Thread* thread_;
  bool borrowed_ = false;
};

// Orphans that no thread continues with: what all threads borrow from (heap/commons.h), and whose
// slabs the sampled blocks lie in (heap/sampling.h).
extern constinit Thread commons;
extern constinit Thread sampled;
inline bool is_shared(const Thread* thread) { return thread == &commons || thread == &sampled; }
// So that such a one has a heap for the tag. False: no memory, or the tag is retired.
bool make_shared_heap(Thread& shared, Tag* tag);

// Scopes; an errno, or 0.
int push_tag(uint32_t id);
int pop_tag();
uint32_t current_tag();

// Gives up the heaps of retired tags that hold nothing any more. Called by a thread on its own slow
// path when `retirements` changed, and every so often while some heap still held blocks.
void drop_retired_heaps(Thread* thread);
// Likewise the heap of this tag alone, if it is retired.
void drop_retired_heap(Thread* thread, uint32_t tag_id);
// Heaps that were not allocated from since the last look give back what is in hand, and themselves
// if nothing of theirs is left; all heaps of the commons do. As there may be thousands: some, until
// the heaps that were looked at (20 each) and the blocks that went back come to `effort`. Returns
// blocks for give_foreign. Lock held.
Block* look_at_idle_heaps(Thread* thread, uint64_t effort);
// The thread has nothing to see to: neither heaps of retired tags nor idle ones.
bool is_up_to_date(const Thread* thread);
// The heap has no slab and nothing in hand: its counts pass to the tag. Lock held.
void retire_heap(Thread* thread, Heap* heap);
// For the running thread, and for the orphans.
void drop_retired_heap_now(uint32_t tag_id);

// Provided by the layer above: called once, before the first thread gets its heaps, with no lock
// held.
void on_first_use();
// To be called by it there.
void start_threads();

}  // namespace tally::core
