// The formats are those of the Linux Standard Base (.eh_frame, .eh_frame_hdr) and DWARF 4, 6.4.
#include "sample/cfi.h"

#include <string.h>

#include "base/math.h"
#include "base/processor.h"

namespace tally::core::cfi {
namespace {

using processor::kFramePointer, processor::kReturnAddress, processor::kStackPointer;

// Encodings of pointers: a format, and what it is relative to.
constexpr uint8_t kAbsolute = 0x00, kUnsigned4 = 0x03, kUnsigned8 = 0x04, kSigned4 = 0x0b,
                  kSigned8 = 0x0c, kFormat = 0x0f;
constexpr uint8_t kRelativeToPlace = 0x10, kRelativeToTable = 0x30, kRelation = 0x70;
constexpr uint8_t kNoPointer = 0xff;

// Reads from bytes, and zeroes where there are no more.
class Reader {
 public:
  Reader(uintptr_t at, uintptr_t end) : at_(at), end_(at <= end ? end : at) {}

  uintptr_t at() const { return at_; }
  bool is_at_end() const { return at_ == end_; }
  bool is_good() const { return !failed_; }

  template <class T>
  T take() {
    T value = 0;
    if (end_ - at_ < sizeof value) {
      fail();
    } else {
      memcpy(&value, reinterpret_cast<const void*>(at_), sizeof value);
      at_ += sizeof value;
    }
    return value;
  }
  void skip(uint64_t bytes) {
    if (bytes > end_ - at_) {
      fail();
    } else {
      at_ += bytes;
    }
  }
  // A part of it, which is skipped.
  Reader part(uint64_t bytes) {
    uintptr_t from = at_;
    skip(bytes);
    return {from, failed_ ? from : at_};
  }
  uint64_t unsigned_leb() {
    unsigned bits;
    return leb(&bits);
  }
  int64_t signed_leb() {
    unsigned bits;
    uint64_t value = leb(&bits);
    const bool is_negative = bits < 64 && (value >> (bits - 1) & 1) != 0;
    return static_cast<int64_t>(is_negative ? value | ~uint64_t{0} << bits : value);
  }
  uintptr_t pointer(uint8_t encoding) {
    const uintptr_t place = at_;
    uintptr_t value = 0;
    switch (encoding & kFormat) {
      case kAbsolute:
      case kUnsigned8:
      case kSigned8:
        value = take<uint64_t>();
        break;
      case kUnsigned4:
        value = take<uint32_t>();
        break;
      case kSigned4:
        value = static_cast<uintptr_t>(int64_t{take<int32_t>()});
        break;
      default:
        fail();
    }
    return (encoding & kRelation) == kRelativeToPlace ? value + place : value;
  }
  void fail() {
    failed_ = true;
    at_ = end_;
  }

 private:
  uint64_t leb(unsigned* bits) {
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
      byte = take<uint8_t>();
      if (shift < 64) value |= uint64_t{byte & 0x7fU} << shift;
      shift += 7;
    } while ((byte & 0x80) != 0);
    *bits = shift;
    return value;
  }

  uintptr_t at_;
  uintptr_t end_;
  bool failed_ = false;
};

// Instructions of which the lower six bits are the first argument, by the upper two.
enum ShortInstruction : uint8_t { kAdvanceHere = 1, kOffsetHere = 2, kRestoreHere = 3 };
// The others.
enum Instruction : uint8_t {
  kNop = 0x00,
  kSetLocation = 0x01,
  kAdvance1 = 0x02,
  kAdvance2 = 0x03,
  kAdvance4 = 0x04,
  kOffset = 0x05,
  kRestore = 0x06,
  kUndefined = 0x07,
  kSameValue = 0x08,
  kInRegister = 0x09,
  kRememberState = 0x0a,
  kRestoreState = 0x0b,
  kDefineCfa = 0x0c,
  kDefineCfaRegister = 0x0d,
  kDefineCfaOffset = 0x0e,
  kDefineCfaExpression = 0x0f,
  kExpression = 0x10,
  kOffsetSigned = 0x11,
  kDefineCfaSigned = 0x12,
  kDefineCfaOffsetSigned = 0x13,
  kValueOffset = 0x14,
  kValueOffsetSigned = 0x15,
  kValueExpression = 0x16,
  kSigned = 0x2d,  // from here on the return address is signed, or no more
  kArgumentsSize = 0x2e,
};

// What several functions share.
struct Common {
  uint64_t code_unit = 1;
  int64_t data_unit = 1;
  uint8_t encoding = kAbsolute;  // of the functions' addresses
  bool has_data = false;         // functions have some, with its length
  bool is_signal_frame = false;
  Reader program{0, 0};
};

// An entry's body, from its length on.
Reader entry_at(uintptr_t at, uintptr_t end) {
  Reader in(at, end);
  uint64_t bytes = in.take<uint32_t>();
  if (bytes == 0xffffffff) bytes = in.take<uint64_t>();
  return in.part(bytes);
}

bool read_common(uintptr_t at, uintptr_t end, Common* common) {
  Reader in = entry_at(at, end);
  if (in.take<uint32_t>() != 0) return false;
  const auto version = in.take<uint8_t>();
  if (version != 1 && version != 3) return false;
  char augmentation[8];
  size_t length = 0;
  while ((augmentation[length] = static_cast<char>(in.take<uint8_t>())) != 0) {
    if (++length == sizeof augmentation) return false;
  }
  common->code_unit = in.unsigned_leb();
  common->data_unit = in.signed_leb();
  const uint64_t return_address = version == 1 ? in.take<uint8_t>() : in.unsigned_leb();
  if (return_address != kReturnAddress) return false;
  if (length != 0) {
    if (augmentation[0] != 'z') return false;
    common->has_data = true;
    Reader data = in.part(in.unsigned_leb());
    for (size_t i = 1; i < length; ++i) {
      switch (augmentation[i]) {
        case 'R':
          common->encoding = data.take<uint8_t>();
          break;
        case 'L':
          data.take<uint8_t>();
          break;
        case 'P':
          data.pointer(data.take<uint8_t>());
          break;
        case 'S':
          common->is_signal_frame = true;
          break;
        case 'B':
          break;  // the return address is signed by the other key
        default:
          return false;
      }
    }
    if (!data.is_good()) return false;
  }
  common->program = in;
  return in.is_good();
}

// Where the caller's value of a register is.
struct Place {
  enum class By : uint8_t { kSame, kCfa, kBase, kUndefined, kOther };
  By by = By::kSame;
  int64_t offset = 0;
};

// What the program has come to: the Row to be, in bytes and unchecked.
struct State {
  uint64_t base = kStackPointer;
  int64_t cfa = 0;
  bool is_indirect = false;
  uint64_t beyond = 0;
  bool is_known = true;  // the CFA
  uint64_t place_base = kStackPointer;
  Place ra, fp;
};

constexpr size_t kRemembered = 8;

class Machine {
 public:
  Machine(const Common& common, uintptr_t location) : common_(common), location_(location) {}

  // Until the row of `code`; false: it cannot be followed.
  bool run(Reader program, uintptr_t code);
  void set_initial() { initial_ = state_; }
  bool row(Row* row) const;

 private:
  void advance(uint64_t units) { location_ += units * common_.code_unit; }
  bool step(uint8_t operation, Reader* in);
  bool step_cfa(uint8_t operation, Reader* in);
  bool step_register(uint8_t operation, Reader* in);
  Place* place_of(uint64_t number);
  void set(uint64_t number, Place::By by, int64_t offset = 0) {
    if (Place* place = place_of(number)) *place = {by, offset};
  }
  // Wraps, as nonsense may.
  int64_t scaled(int64_t units) const {
    return static_cast<int64_t>(static_cast<uint64_t>(units) *
                                static_cast<uint64_t>(common_.data_unit));
  }
  void set_saved(uint64_t number, int64_t units) { set(number, Place::By::kCfa, scaled(units)); }
  void restore(uint64_t number) {
    if (number == kReturnAddress) state_.ra = initial_.ra;
    if (number == kFramePointer) state_.fp = initial_.fp;
  }
  void define_cfa(uint64_t base, int64_t offset) {
    state_.base = base;
    state_.cfa = offset;
    state_.is_indirect = false;
    state_.is_known = true;
  }
  void define_cfa_by_expression(Reader in);
  void set_by_expression(uint64_t number, Reader in);

  const Common& common_;
  uintptr_t location_;
  State state_, initial_;
  State remembered_[kRemembered];
  size_t remembered_count_ = 0;
};

Place* Machine::place_of(uint64_t number) {
  if (number == kReturnAddress) return &state_.ra;
  if (number == kFramePointer) return &state_.fp;
  return nullptr;
}

// Of expressions: a register, by its number more than this, and an offset.
constexpr uint8_t kRegisterPlus = 0x70;
constexpr uint8_t kDereference = 0x06;
constexpr uint8_t kPlusConstant = 0x23;

// [base + cfa] + beyond, as of frames on a realigned stack, of signals and of hand-written code.
void Machine::define_cfa_by_expression(Reader in) {
  const uint64_t base = static_cast<uint8_t>(in.take<uint8_t>() - kRegisterPlus);
  define_cfa(base, in.signed_leb());
  state_.is_indirect = true;
  state_.is_known = in.take<uint8_t>() == kDereference;
  state_.beyond = 0;
  if (!in.is_at_end()) {
    state_.is_known = state_.is_known && in.take<uint8_t>() == kPlusConstant;
    state_.beyond = in.unsigned_leb();
  }
  state_.is_known = state_.is_known && in.is_good() && in.is_at_end();
}

void Machine::set_by_expression(uint64_t number, Reader in) {
  Place* place = place_of(number);
  if (place == nullptr) return;
  const uint64_t base = static_cast<uint8_t>(in.take<uint8_t>() - kRegisterPlus);
  *place = {Place::By::kBase, in.signed_leb()};
  state_.place_base = base;
  if (!in.is_good() || !in.is_at_end()) place->by = Place::By::kOther;
}

bool Machine::run(Reader program, uintptr_t code) {
  while (!program.is_at_end() && location_ <= code) {
    const auto operation = program.take<uint8_t>();
    const unsigned low = operation & 0x3f;
    switch (operation >> 6) {
      case kAdvanceHere:
        advance(low);
        break;
      case kOffsetHere:
        set_saved(low, static_cast<int64_t>(program.unsigned_leb()));
        break;
      case kRestoreHere:
        restore(low);
        break;
      default:
        if (!step(operation, &program)) return false;
    }
  }
  return program.is_good();
}

bool Machine::step(uint8_t operation, Reader* in) {
  switch (operation) {
    case kNop:
    case kSigned:
      break;
    case kArgumentsSize:
      in->unsigned_leb();
      break;
    case kSetLocation:
      location_ = in->pointer(common_.encoding);
      break;
    case kAdvance1:
      advance(in->take<uint8_t>());
      break;
    case kAdvance2:
      advance(in->take<uint16_t>());
      break;
    case kAdvance4:
      advance(in->take<uint32_t>());
      break;
    case kRememberState:
      if (remembered_count_ == kRemembered) return false;
      remembered_[remembered_count_++] = state_;
      break;
    case kRestoreState:
      if (remembered_count_ == 0) return false;
      state_ = remembered_[--remembered_count_];
      break;
    default:
      return step_cfa(operation, in);
  }
  return true;
}

bool Machine::step_cfa(uint8_t operation, Reader* in) {
  uint64_t base = state_.base;
  switch (operation) {
    case kDefineCfa:
      base = in->unsigned_leb();
      [[fallthrough]];
    case kDefineCfaOffset:
      define_cfa(base, static_cast<int64_t>(in->unsigned_leb()));
      break;
    case kDefineCfaSigned:
      base = in->unsigned_leb();
      [[fallthrough]];
    case kDefineCfaOffsetSigned:
      define_cfa(base, scaled(in->signed_leb()));
      break;
    case kDefineCfaRegister:
      define_cfa(in->unsigned_leb(), state_.cfa);
      break;
    case kDefineCfaExpression:
      define_cfa_by_expression(in->part(in->unsigned_leb()));
      break;
    default:
      return step_register(operation, in);
  }
  return true;
}

bool Machine::step_register(uint8_t operation, Reader* in) {
  const uint64_t number = in->unsigned_leb();
  switch (operation) {
    case kOffset:
      set_saved(number, static_cast<int64_t>(in->unsigned_leb()));
      break;
    case kOffsetSigned:
      set_saved(number, in->signed_leb());
      break;
    case kRestore:
      restore(number);
      break;
    case kUndefined:
      set(number, Place::By::kUndefined);
      break;
    case kSameValue:
      set(number, Place::By::kSame);
      break;
    case kExpression:
      set_by_expression(number, in->part(in->unsigned_leb()));
      break;
    case kInRegister:
    case kValueOffset:
    case kValueOffsetSigned:
      in->unsigned_leb();  // or a signed one, of the same length
      set(number, Place::By::kOther);
      break;
    case kValueExpression:
      in->skip(in->unsigned_leb());
      set(number, Place::By::kOther);
      break;
    default:
      return false;
  }
  return true;
}

template <unsigned bits>
bool to_words(int64_t bytes, int* words) {
  *words = static_cast<int>(bytes / 8);
  return bytes % 8 == 0 && bytes / 8 < (1 << (bits - 1)) && bytes / 8 >= -(1 << (bits - 1));
}

bool Machine::row(Row* row) const {
  const State& state = state_;
  if (state.ra.by == Place::By::kUndefined) {
    row->kind = Kind::kEnd;
    return true;
  }
  const bool is_saved = state.ra.by == Place::By::kCfa || state.ra.by == Place::By::kBase;
  const bool has_fp = state.fp.by == Place::By::kCfa || state.fp.by == Place::By::kBase;
  row->ra_by_base = state.ra.by == Place::By::kBase;
  row->fp_by_base = state.fp.by == Place::By::kBase;
  int cfa, ra, fp;
  if (!is_saved || state.fp.by == Place::By::kOther || !state.is_known ||
      (state.base != kStackPointer && state.base != kFramePointer) ||
      ((row->ra_by_base || row->fp_by_base) && state.place_base != state.base) ||
      !to_words<21>(state.cfa, &cfa) || !to_words<16>(state.ra.offset, &ra) ||
      !to_words<16>(state.fp.offset, &fp) || state.beyond % 8 != 0 || state.beyond / 8 >= 16) {
    return false;
  }
  row->kind = common_.is_signal_frame ? Kind::kSignal : Kind::kCall;
  row->by_fp = state.base == kFramePointer;
  row->is_indirect = state.is_indirect;
  row->beyond = state.is_indirect ? static_cast<unsigned>(state.beyond / 8) : 0;
  row->has_fp = has_fp;
  row->cfa = cfa;
  row->ra = ra;
  row->fp = fp;
  return true;
}

// The entry of the function that holds `code`, or of the one before it; 0: there is none.
uintptr_t find_entry(uintptr_t table, uintptr_t end, uintptr_t code) {
  Reader in(table, end);
  const auto version = in.take<uint8_t>();
  const auto frames = in.take<uint8_t>(), count_as = in.take<uint8_t>(),
             entries_as = in.take<uint8_t>();
  // All linkers write the table like this.
  if (version != 1 || count_as != kUnsigned4 || entries_as != (kRelativeToTable | kSigned4) ||
      frames == kNoPointer) {
    return 0;
  }
  in.pointer(frames);
  const auto count = in.take<uint32_t>();
  if (count == 0 || count > (end - in.at()) / 8) return 0;
  const uintptr_t entries = in.at();
  const auto word = [&](size_t i, size_t field) {
    int32_t value;
    memcpy(&value, reinterpret_cast<const void*>(entries + i * 8 + field), sizeof value);
    return table + static_cast<uintptr_t>(int64_t{value});
  };
  size_t low = 0, high = count;
  while (high - low > 1) {
    const size_t middle = (low + high) / 2;
    (word(middle, 0) <= code ? low : high) = middle;
  }
  return word(low, 0) <= code ? word(low, 4) : 0;
}

}  // namespace

Row row_at(const void* table, uintptr_t start, uintptr_t end, uintptr_t code) {
  const Row none = {};
  if (address(table) < start || address(table) >= end) return none;
  const uintptr_t entry = find_entry(address(table), end, code);
  if (entry < start || entry >= end) return none;
  Reader in = entry_at(entry, end);
  const uintptr_t field = in.at();
  const auto back = in.take<uint32_t>();
  Common common;
  if (back == 0 || back > field - start || !read_common(field - back, end, &common)) return none;
  const uintptr_t first = in.pointer(common.encoding);
  const uintptr_t bytes = in.pointer(common.encoding & kFormat);
  if (common.has_data) in.skip(in.unsigned_leb());
  if (!in.is_good() || code - first >= bytes) return none;
  Machine machine(common, first);
  if (!machine.run(common.program, code)) return none;
  machine.set_initial();
  Row row = {};
  return machine.run(in, code) && machine.row(&row) ? row : none;
}

}  // namespace tally::core::cfi
