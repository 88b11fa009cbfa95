#include "record/profile.h"

#include <string.h>

#include "os/os.h"
#include "sample/modules.h"
#include "sample/profile.h"

namespace tally::record {

using core::profile;

static_assert(kSitesMax == core::Profile::kSitesMost && kSamplesMax == core::Profile::kSamplesMost);
static_assert(kModulesMax == core::modules::kMost && kNoModule == core::modules::kNone);
static_assert(kCallsMax == core::Profile::kCallsMost && kLifetimeSteps == core::kLifetimeSteps);
static_assert(sizeof(Call) == sizeof(core::Call) &&
              offsetof(Call, caller) == offsetof(core::Call, caller) &&
              offsetof(Call, module) == offsetof(core::Call, module));

namespace {

constexpr bool has_same_lifetimes() {
  for (size_t i = 0; i + 1 < kLifetimeSteps; ++i) {
    if (kLifetimes[i] != core::kLifetimes[i]) return false;
  }
  return true;
}
static_assert(has_same_lifetimes());

// Sums may have come out a hair below nothing.
uint64_t rounded(double estimate) {
  if (estimate <= 0) return 0;
  const auto whole = static_cast<uint64_t>(estimate);
  return whole + (estimate - static_cast<double>(whole) >= .5 ? 1 : 0);
}
Amount rounded(const core::Amount& amount) {
  return {rounded(amount.objects), rounded(amount.bytes)};
}

}  // namespace

void ProfileWriter::reset(Memory* memory) {
  *this = {};
  memory_ = memory;
  profile.names().begin_anew();
}

// Those in use, one behind the other.
uint32_t ProfileWriter::pack_sites() {
  auto* rows = reinterpret_cast<Site*>(memory_->rows + sizeof(ProfileHead));
  uint32_t count = 0;
  for (uint32_t i = 0; i < profile.site_end(); ++i) {
    const core::Site& site = profile.sites()[i];
    if (!site.is_used) continue;
    memory_->new_sites[i] = count;
    Site* row = &rows[count++];
    profile.names().keep(site.tag);
    *row = {site.call,
            site.tag,
            rounded(site.allocated),
            rounded(site.live),
            rounded(site.peak),
            rounded(site.marks[1]),
            {}};
    for (size_t step = 0; step < kLifetimeSteps; ++step) {
      row->lifetimes[step] = rounded(site.lifetimes[step]);
    }
  }
  return count;
}

uint32_t ProfileWriter::pack_samples(uint32_t site_count) {
  auto* rows =
      reinterpret_cast<Sample*>(memory_->rows + sizeof(ProfileHead) + site_count * sizeof(Site));
  const int64_t wall = static_cast<int64_t>(core::os::now_ns(core::os::Clock::kWall) -
                                            core::os::now_ns(core::os::Clock::kUptime));
  for (uint32_t i = 0; i < profile.sample_count(); ++i) {
    const core::Sample& sample = profile.samples()[i];
    rows[i] = {memory_->new_sites[sample.site], sample.thread, sample.bytes, sample.requested,
               static_cast<int64_t>(sample.born) + wall};
  }
  return profile.sample_count();
}

// All of one moment. False: nothing happened since the last.
bool ProfileWriter::pack() {
  core::LockGuard guard(profile.lock);
  const core::Profile::Totals totals = profile.totals();
  if (totals.changes == changes_ && sequence_ != 0) return false;
  changes_ = totals.changes;
  profile.settle();
  auto* head = reinterpret_cast<ProfileHead*>(memory_->rows);
  *head = {};
  const int64_t time = static_cast<int64_t>(core::os::now_ns(core::os::Clock::kWall));
  const uint64_t uptime = core::os::now_ns(core::os::Clock::kUptime);
  auto wall = [&](uint64_t at) { return time - static_cast<int64_t>(uptime - at); };
  head->time = time;
  head->begun = wall(totals.begun);
  head->rate = profile.rate();
  head->taken = totals.taken;
  head->lost = totals.lost;
  head->peak_footprint = totals.peak_footprint;
  head->peak_time = wall(totals.peak_at);
  head->mark_time = wall(profile.totals().marked_at);
  head->cut = static_cast<uint32_t>(totals.cut);
  head->call_count = profile.call_count();
  // Their paths lie in memory that comes with the first call.
  head->module_count = head->call_count == 0 ? 0 : static_cast<uint32_t>(core::modules::count());
  head->site_count = pack_sites();
  head->sample_count = pack_samples(head->site_count);
  head->bytes =
      sizeof *head + head->site_count * sizeof(Site) + head->sample_count * sizeof(Sample);
  return true;
}

int ProfileWriter::write_modules(const File& file, uint32_t count) {
  for (; modules_ < count; ++modules_) {
    const core::modules::Entry& entry = core::modules::at(modules_);
    Module module = {};
    module.start = entry.start;
    module.end = entry.end;
    module.bias = entry.bias;
    const uint32_t path = profile.names().offset_of(entry.path, true);
    module.path = path == core::Names::kNone ? 0 : path;  // there is no room for more
    module.build_id_bytes = entry.build_id_bytes;
    static_assert(sizeof module.build_id == sizeof entry.build_id);
    memcpy(module.build_id, entry.build_id, sizeof module.build_id);
    if (int error = file.write(&module, sizeof module, kAtModules + modules_ * sizeof module)) {
      return error;
    }
  }
  return 0;
}

// They stay as they are, so that no lock is needed.
int ProfileWriter::write_calls(const File& file, uint32_t count) {
  if (calls_ >= count) return 0;
  int error = file.write(profile.calls() + calls_, (count - calls_) * sizeof(Call),
                         kAtCalls + calls_ * sizeof(Call));
  if (error == 0) calls_ = count;
  return error;
}

int ProfileWriter::write(const File& file) {
  if (profile.rate() == 0 || !pack()) return 0;
  const int error = write_packed(file);
  if (error != 0) changes_ = ~uint64_t{0};  // to be tried again
  return error;
}

// Model: tests/model/pieces_model.cpp.
int ProfileWriter::write_packed(const File& file) {
  auto* head = reinterpret_cast<ProfileHead*>(memory_->rows);
  int error = write_modules(file, head->module_count);
  if (error == 0 && head->call_count != 0) error = write_calls(file, head->call_count);
  if (error == 0) {
    error = profile.names().write_new([&](const void* data, size_t bytes, size_t offset) {
      return file.write(data, bytes, kAtTexts + offset);
    });
  }
  if (error != 0) return error;
  head->texts_bytes = profile.names().used();
  const uint64_t sequence = sequence_ + 1;
  head->seal = {sequence, seal_of(head, head->bytes, sequence)};
  error = file.write(head, head->bytes, kAtProfile[sequence % 2]);
  if (error != 0) return error;
  sequence_ = sequence;
  profile.names().publish();
  return 0;
}

}  // namespace tally::record
