#include "sample/profile.h"

#include "base/math.h"
#include "memory/meta.h"
#include "os/os.h"
#include "os/resident.h"
#include "sample/poisson.h"

namespace tally::core {

constinit Profile profile;

namespace {

constexpr uint64_t kFirstMark = 1000000000;  // ns after the start
// From so many on they make room for others.
constexpr uint32_t kIdleSitesMost = Profile::kSitesMost / 8;

uint32_t mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ b * 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 32) * 0x94d049bb133111eb;
  return static_cast<uint32_t>(x >> 32);
}
uint32_t hash_of(const Call& call) {
  return mix(call.address, uint64_t{call.module} << 32 | call.caller);
}
uint32_t hash_of(const Site& site) { return mix(site.call, site.tag); }
uint32_t hash_of(const Sample& sample) { return mix(sample.block, 0); }

template <class Entry>
auto hashes(const Entry* entries) {
  return [entries](uint32_t i) { return hash_of(entries[i]); };
}

size_t step_of(uint64_t lifetime) {
  size_t step = 0;
  while (step + 1 < kLifetimeSteps && lifetime >= kLifetimes[step]) ++step;
  return step;
}

}  // namespace

void Profile::start(uint64_t rate) {
  totals_.begun = marked_[0] = marked_[1] = os::now_ns(os::Clock::kUptime);
  seed_ = totals_.begun;
  random_ = seed_ | 1;
  rate_.store(rate, std::memory_order_relaxed);
}

// What is drawn from here on is not what the parent draws.
void Profile::after_fork() {
  seed_ ^= os::now_ns(os::Clock::kUptime) * 0x9e3779b97f4a7c15 ^
           static_cast<uint64_t>(os::process_id()) << 32;
  random_ = seed_ | 1;
}

void Profile::lose() {
  LockGuard guard(lock);
  ++totals_.taken;
  ++totals_.lost;
  ++totals_.changes;
}

// With the first sample.
bool Profile::take_memory() {
  if (memory_ != nullptr) return true;
  memory_ = static_cast<Memory*>(meta::map(round_up(sizeof(Memory), 65536)));
  if (memory_ == nullptr) return false;
  names_.reset(memory_->names);
  names_.offset_of(root_tag()->name, true);
  call_index_.reset(memory_->call_slots, Index::slots_for(kCallsMost));
  site_index_.reset(memory_->site_slots, Index::slots_for(kSitesMost));
  sample_index_.reset(memory_->sample_slots, Index::slots_for(kSamplesMost));
  call_count_ = 1;
  return true;
}

double Profile::weight_of(uint64_t bytes) const { return 1 / chance(bytes, rate()); }

// ---- Stacks.

// From the outermost frame inwards. Where there is no room for one the stack ends.
uint32_t Profile::call_of(const Stack& stack) {
  Call* calls = memory_->calls;
  Call call = {0, 0, 0};
  for (size_t i = stack.depth; i-- > 0;) {
    call.address = stack.frames[i].address;
    call.module = stack.frames[i].module;
    uint32_t known = call_index_.find(hash_of(call), [&](uint32_t at) {
      return calls[at].address == call.address && calls[at].caller == call.caller &&
             calls[at].module == call.module;
    });
    if (known == Index::kNone) {
      if (call_count_ == kCallsMost) {
        ++totals_.cut;
        break;
      }
      known = call_count_++;
      calls[known] = call;
      call_index_.add(known, hashes(calls));
    }
    call.caller = known;
  }
  return call.caller;
}

// ---- Sites.

// kNone: there is no room for another.
uint32_t Profile::site_of(uint32_t call, uint32_t tag) {
  Site* sites = memory_->sites;
  Site site = {};
  site.call = call;
  site.tag = tag;
  uint32_t known = site_index_.find(
      hash_of(site), [&](uint32_t at) { return sites[at].call == call && sites[at].tag == tag; });
  if (known != Index::kNone) return known;
  // The last ones are for stacks that are not told apart.
  if (call != 0 ? site_count_ - rests_ >= kSitesMost - kRestsMost : rests_ == kRestsMost) {
    return Index::kNone;
  }
  uint32_t at = site_end_;
  if (site_count_ < site_end_) {
    while (sites[free_from_].is_used) ++free_from_;
    at = free_from_;
  } else {
    ++site_end_;
  }
  site.is_used = true;
  site.peak_epoch = peak_epoch_;
  site.mark_epoch = mark_epoch_;
  sites[at] = site;
  ++site_count_;
  ++(call != 0 ? idle_sites_ : rests_);
  site_index_.add(at, hashes(sites));
  return at;
}

// Of the tag's stacks that are not told apart; where tags come and go without end, the root's.
uint32_t Profile::rest_of(uint32_t tag) {
  constexpr uint32_t kRoot = 0;  // the first name
  if (rests_ + 1 < kRestsMost || tag == kRoot) return site_of(0, tag);
  Site rest = {};
  rest.tag = tag;
  uint32_t known = site_index_.find(hash_of(rest), [&](uint32_t at) {
    return memory_->sites[at].call == 0 && memory_->sites[at].tag == tag;
  });
  return known != Index::kNone ? known : site_of(0, kRoot);
}

// As that; if need be that of the tag's stacks that are not told apart.
uint32_t Profile::any_site_of(uint32_t call, uint32_t tag) {
  uint32_t site = site_of(call, tag);
  if (site != Index::kNone) return site;
  if (idle_sites_ > kIdleSitesMost) {
    join_idle_sites();
    site = site_of(call, tag);
  }
  return site != Index::kNone ? site : rest_of(tag);
}

// Sites of which nothing is live are from here on one for each tag, of an unknown stack.
void Profile::join_idle_sites() {
  for (uint32_t i = 0; i < site_end_; ++i) {
    Site* site = &memory_->sites[i];
    if (!site->is_used || site->samples != 0 || site->call == 0) continue;
    touch(site);
    const Site gone = *site;
    site_index_.remove(i, hashes(memory_->sites));
    site->is_used = false;
    free_from_ = min_of(free_from_, i);
    --site_count_;
    --idle_sites_;
    Site* rest = &memory_->sites[rest_of(gone.tag)];  // there is room now
    touch(rest);
    rest->allocated.add(gone.allocated);
    rest->peak.add(gone.peak);
    for (int mark = 0; mark < 2; ++mark) rest->marks[mark].add(gone.marks[mark]);
    for (size_t step = 0; step < kLifetimeSteps; ++step) {
      rest->lifetimes[step] += gone.lifetimes[step];
    }
  }
}

// Before its first change since the last peak, or mark.
void Profile::touch(Site* site) const {
  if (site->peak_epoch != peak_epoch_) {
    site->peak_epoch = peak_epoch_;
    site->peak = site->live;
  }
  if (site->mark_epoch != mark_epoch_) {
    site->marks[1] = site->mark_epoch + 1 == mark_epoch_ ? site->marks[0] : site->live;
    site->marks[0] = site->live;
    site->mark_epoch = mark_epoch_;
  }
}

// Nothing was sampled since the last call: what is live was live at each mark that is due.
void Profile::keep_marks(uint64_t now) {
  for (;;) {
    uint64_t next = totals_.begun + max_of(kFirstMark, 2 * (marked_[0] - totals_.begun));
    if (now < next) return;
    marked_[1] = marked_[0];
    marked_[0] = next;
    ++mark_epoch_;
  }
}

// After a change that may have made it one.
void Profile::look_for_peak(uint64_t now) {
  uint64_t held = meta::process.held();
  if (held <= totals_.peak_footprint) return;
  totals_.peak_footprint = held;
  totals_.peak_at = now;
  ++peak_epoch_;
}

// ---- Samples.

uint32_t Profile::find_sample(const void* block) const {
  if (memory_ == nullptr) return Index::kNone;
  const Sample* samples = memory_->samples;
  return sample_index_.find(mix(address(block), 0),
                            [&](uint32_t at) { return samples[at].block == address(block); });
}

// The last one takes its place.
void Profile::drop_sample(uint32_t at) {
  Sample* samples = memory_->samples;
  Site* site = &memory_->sites[samples[at].site];
  touch(site);
  site->live.take(weight_of(samples[at].bytes), samples[at].bytes);
  if (--site->samples == 0) {
    site->live = {};  // what rounding left
    if (site->call != 0) ++idle_sites_;
  }
  sample_index_.remove(at, hashes(samples));
  uint32_t last = --sample_count_;
  if (at == last) return;
  sample_index_.remove(last, hashes(samples));
  samples[at] = samples[last];
  sample_index_.add(at, hashes(samples));
}

// Half as many samples, as if there had been half as many points: each stays with the chance that
// the new rate would have found it, and weighs more.
void Profile::thin_out() {
  settle();
  uint64_t old = rate(), now = old * 2;
  Sample* samples = memory_->samples;
  for (uint32_t i = sample_count_; i-- > 0;) {
    double stays = chance(samples[i].bytes, now) / chance(samples[i].bytes, old);
    if (next_uniform(&random_) >= stays) drop_sample(i);
  }
  rate_.store(now, std::memory_order_relaxed);
  for (uint32_t i = 0; i < site_end_; ++i) memory_->sites[i].live = {};
  for (uint32_t i = 0; i < sample_count_; ++i) {
    memory_->sites[samples[i].site].live.add(weight_of(samples[i].bytes), samples[i].bytes);
  }
}

void Profile::add(const Block& block, uint64_t drawn, Tag* tag, const Stack& stack) {
  uint64_t now = os::now_ns(os::Clock::kUptime);
  uint32_t thread = os::thread_id();
  LockGuard guard(lock);
  ++totals_.taken;
  ++totals_.changes;
  if (!take_memory()) {
    ++totals_.lost;
    return;
  }
  keep_marks(now);
  // Its end was not seen, as one within a backend's call is not.
  uint32_t old = find_sample(block.start);
  if (old != Index::kNone) drop_sample(old);
  if (sample_count_ == kSamplesMost) thin_out();
  uint32_t name = names_.offset_of(tag->name);
  if (name == Names::kNone) {
    // Idle sites need theirs; there may be room in two publications' time.
    if (idle_sites_ > kIdleSitesMost) join_idle_sites();
    name = 0;  // the root's, which is the first
  }
  uint32_t at = any_site_of(call_of(stack), name);
  if (at == Index::kNone || sample_count_ == kSamplesMost) {
    ++totals_.lost;
    return;
  }
  Site* site = &memory_->sites[at];
  touch(site);
  // Of a block that had grown the earlier bytes were counted when they came.
  double objects = drawn == block.bytes ? weight_of(drawn) : 0;
  site->allocated.objects += objects;
  site->allocated.bytes += weight_of(drawn) * static_cast<double>(drawn);
  site->live.add(weight_of(block.bytes), block.bytes);
  if (site->samples++ == 0 && site->call != 0) --idle_sites_;
  memory_->samples[sample_count_] = {
      address(block.start), block.bytes, block.requested, now, at, thread};
  sample_index_.add(sample_count_++, hashes(memory_->samples));
  look_for_peak(now);
}

void Profile::remove(const void* block) {
  uint64_t now = os::now_ns(os::Clock::kUptime);
  LockGuard guard(lock);
  uint32_t at = find_sample(block);
  if (at == Index::kNone) return;
  ++totals_.changes;
  keep_marks(now);
  const Sample& sample = memory_->samples[at];
  Site* site = &memory_->sites[sample.site];
  site->lifetimes[step_of(now - sample.born)] += weight_of(sample.bytes);
  drop_sample(at);
}

bool Profile::rename(const void* block, const void* name) {
  LockGuard guard(lock);
  uint32_t at = find_sample(block);
  if (at == Index::kNone) return false;
  ++totals_.changes;
  sample_index_.remove(at, hashes(memory_->samples));
  memory_->samples[at].block = address(name);
  sample_index_.add(at, hashes(memory_->samples));
  return true;
}

bool Profile::resize(const void* block, const Block& now) {
  uint64_t time = os::now_ns(os::Clock::kUptime);
  LockGuard guard(lock);
  uint32_t at = find_sample(block);
  if (at == Index::kNone) return false;
  ++totals_.changes;
  keep_marks(time);
  Sample* sample = &memory_->samples[at];
  Site* site = &memory_->sites[sample->site];
  touch(site);
  double stays = chance(now.bytes, rate()) / chance(sample->bytes, rate());
  if (next_uniform(&random_) >= stays) {
    drop_sample(at);
    return true;
  }
  site->live.take(weight_of(sample->bytes), sample->bytes);
  site->live.add(weight_of(now.bytes), now.bytes);
  // What it grew by was allocated.
  if (now.bytes > sample->bytes) {
    site->allocated.bytes += static_cast<double>(now.bytes - sample->bytes);
  }
  sample_index_.remove(at, hashes(memory_->samples));
  sample->block = address(now.start);
  sample->bytes = now.bytes;
  sample->requested = now.requested;
  sample_index_.add(at, hashes(memory_->samples));
  look_for_peak(time);
  return true;
}

// ---- Publication.

void Profile::settle() {
  if (memory_ == nullptr) return;
  keep_marks(os::now_ns(os::Clock::kUptime));
  for (uint32_t i = 0; i < site_end_; ++i) touch(&memory_->sites[i]);
}

Profile::Totals Profile::totals() const {
  Totals totals = totals_;
  totals.marked_at = marked_[1];
  return totals;
}

size_t Profile::resident_bytes() const {
  return memory_ == nullptr ? 0 : os::resident_in(memory_, round_up(sizeof(Memory), 65536));
}

}  // namespace tally::core
