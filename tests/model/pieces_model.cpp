// The pieces of a record, against their reader and the writer's death at any instruction: a frame,
// its names, whose cells become others', and a point that has the same names.
//
//   record/writer.cpp's write_frame, write_names and write_points, and tag/names.h, against
//   tools/tally/record_reader.cpp's read_frame, read_names and points
//
// A profile is to its texts what a frame is to its names.
#include "checker.h"

namespace tally::model {
namespace {

// A frame is written as two halves, in either order, as a file's readers may find them torn anyhow;
// a name likewise. Each frame has two names: that of a tag which is always there, in cell 0, and
// that of one which is the last frame's, or a new one.
struct PiecesModel {
  static constexpr int kThreads = 3;
  static constexpr int kWriter = 0, kReader = 1, kKiller = 2;
  static constexpr uint8_t kEnd = 99, kFrames = 4, kTries = 5, kCells = 3, kTorn = 255;

  bool two_slots = true;
  bool has_checksum = true;
  bool names_come_first = true;        // before the frame that has their offsets
  bool since_comes_first = true;       // before the name
  bool frame_before_is_spared = true;  // its names are, and not only the new one's
  bool number_waits = true;            // a write that failed is the next one's number
  bool reader_tries_both = true;
  bool reader_looks_at_since = true;
  bool reader_reads_since_last = true;
  bool points_are_not_newer = true;  // than the frame whose names were read

  struct Cell {
    uint8_t name, since;  // in the file
  };
  struct Try {  // to write a frame, by its number from 1
    uint8_t sequence, cell, name;
  };
  struct State {
    uint8_t killed;
    Cell file[kCells];
    uint8_t used[kCells];  // the last publication that had use for it, by the writer's book
    uint8_t half[2][2];    // of each slot: the try that wrote it
    Try tries[kTries + 1];
    uint8_t last_try, frames;
    uint8_t point[kFrames + 1];  // the try of that publication; 0: none
    uint8_t failed, put;         // one write did; there is a name to write
    uint8_t at[kThreads];
    Cell read_cell[kCells];
    uint8_t saw[2], read[2], slot, looks;
  };

  State start() const {
    // The file was made, with a frame: only then has it its magic.
    State s = {};
    for (uint8_t i : {0, 1}) {
      s.file[i] = {static_cast<uint8_t>(1 + i), 1};
      s.used[i] = 1;
    }
    s.half[1][0] = s.half[1][1] = 1;
    s.tries[1] = {1, 1, 2};
    s.last_try = s.frames = s.point[1] = 1;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd || (t == kWriter && s.killed); }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State& s, int t) const {
    if (t == kKiller) return 2;
    if (t == kReader) return s.at[t] == 14 ? kFrames : 1;
    const bool may_fail = s.at[t] == 5 || s.at[t] == 6;
    return s.at[t] == 0 || s.at[t] == 4 || (may_fail && !s.failed) ? 2 : 1;
  }

  const char* step(State& s, int t, int choice) const {
    if (t == kWriter) return writes(s, choice);
    if (t == kReader) return reads(s, choice);
    s.killed = choice == 0;
    s.at[kKiller] = kEnd;
    return nullptr;
  }

  // offset_of: of the tag that is always there, and of the last frame's or of a new one.
  void pack(State& s, bool is_new) const {
    const auto next = static_cast<uint8_t>(s.frames + 1);
    Try now = s.tries[s.last_try];
    now.sequence = next;
    s.put = 0;
    const uint8_t spared = frame_before_is_spared ? s.frames : next;
    for (uint8_t cell = 1; cell < kCells && is_new; ++cell) {
      if (s.used[cell] >= spared) continue;
      now.cell = cell;
      now.name = static_cast<uint8_t>(s.last_try + 2);
      s.put = 1;
      break;
    }
    s.used[0] = s.used[now.cell] = next;
    s.tries[++s.last_try] = now;
  }

  const char* writes(State& s, int choice) const {
    uint8_t& at = s.at[kWriter];
    const Try& now = s.tries[s.last_try];
    Cell* cell = &s.file[now.cell];
    uint8_t* slot = s.half[two_slots ? now.sequence % 2 : 1];
    switch (at) {
      case 0:
        if (s.frames == kFrames || s.last_try == kTries) {
          at = kEnd;
          return nullptr;
        }
        pack(s, choice == 1);
        at = names_come_first && s.put ? 1 : 4;
        return nullptr;
      case 1:
        if (since_comes_first) cell->since = now.sequence;
        if (!since_comes_first) cell->name = kTorn;
        at = 2;
        return nullptr;
      case 2:
        cell->name = since_comes_first ? kTorn : now.name;
        at = 3;
        return nullptr;
      case 3:
        cell->name = now.name;
        cell->since = now.sequence;
        at = names_come_first ? 4 : 7;
        return nullptr;
      case 4:
        slot[choice] = s.last_try;
        at = choice == 0 ? 5 : 6;
        return nullptr;
      case 5:
      case 6:
        if (choice == 1) {
          s.failed = 1;
          if (!number_waits) s.frames = now.sequence;
          at = 0;
          return nullptr;
        }
        slot[at == 5 ? 1 : 0] = s.last_try;
        at = names_come_first || !s.put ? 7 : 1;
        return nullptr;
      default:  // write_points
        s.frames = now.sequence;
        s.point[now.sequence] = s.last_try;
        at = 0;
        return nullptr;
    }
  }

  const char* look_again(State& s, const char* where_none_writes) const {
    s.at[kReader] = 0;
    if (!s.killed && s.at[kWriter] != kEnd) return nullptr;
    // What is found now is all that there will ever be.
    return s.looks++ == 0 ? nullptr : where_none_writes;
  }

  const char* reads(State& s, int choice) const {
    uint8_t& at = s.at[kReader];
    switch (at++) {
      case 0:
      case 1:
        s.saw[at - 1] = s.tries[s.half[at - 1][0]].sequence;
        return nullptr;
      case 2:
        s.slot = s.saw[1] > s.saw[0] ? 1 : 0;
        return nullptr;
      case 3:
      case 5:
        s.read[0] = s.half[s.slot][0];
        return nullptr;
      case 4:
      case 6:
        s.read[1] = s.half[s.slot][1];
        if (s.read[0] != 0 && (s.read[0] == s.read[1] || !has_checksum)) {
          at = 7;
          return s.read[0] == s.read[1] ? nullptr : "halves of two frames are taken for one";
        }
        if (at != 5 || !reader_tries_both)
          return look_again(s, "a dead process's record has no whole frame");
        s.slot ^= 1;
        return nullptr;
      case 7:
      case 8:
      case 9:
        read_names(s, at - 8, reader_reads_since_last);
        return nullptr;
      case 10:
      case 11:
      case 12:
        read_names(s, at - 11, !reader_reads_since_last);
        return nullptr;
      case 13:
        return looks_at_frame(s);
      default:
        return looks_at_point(s, s.point[choice + 1]);
    }
  }

  static void read_names(State& s, int cell, bool of_text) {
    if (of_text) s.read_cell[cell].name = s.file[cell].name;
    if (!of_text) s.read_cell[cell].since = s.file[cell].since;
  }
  bool is_gone(const State& s, uint8_t cell, uint8_t sequence) const {
    return reader_looks_at_since && s.read_cell[cell].since > sequence;
  }

  const char* looks_at_frame(State& s) const {
    const Try& frame = s.tries[s.read[0]];
    if (is_gone(s, 0, frame.sequence) || is_gone(s, frame.cell, frame.sequence))
      return look_again(s, "a dead process's frame lacks a name");
    if (s.read_cell[0].name != 1 || s.read_cell[frame.cell].name != frame.name)
      return "a frame has a name that is not its tag's";
    return nullptr;
  }
  const char* looks_at_point(State& s, uint8_t of_try) const {
    const Try& point = s.tries[of_try];
    s.at[kReader] = kEnd;
    if (of_try == 0) return nullptr;
    if (points_are_not_newer && point.sequence > s.tries[s.read[0]].sequence) return nullptr;
    if (is_gone(s, 0, point.sequence)) return "history lacks the name of a tag that is there";
    if (is_gone(s, point.cell, point.sequence)) return nullptr;
    return s.read_cell[point.cell].name == point.name ? nullptr
                                                      : "history has a name that is not its tag's";
  }

  const char* broken(const State&) const { return nullptr; }
  const char* broken_at_end(const State&) const { return nullptr; }
};

void fails_without(Verdict& verdict, bool PiecesModel::*step, const char* name) {
  PiecesModel pieces;
  pieces.*step = false;
  verdict.fails(name, pieces);
}

}  // namespace
}  // namespace tally::model

int main() {
  using namespace tally::model;
  using Model = PiecesModel;
  Verdict verdict;
  verdict.holds("frames, names and points, and a death at any moment", Model());
  fails_without(verdict, &Model::two_slots, "with one frame alone");
  fails_without(verdict, &Model::has_checksum, "without a checksum");
  fails_without(verdict, &Model::names_come_first, "with names after the frame");
  fails_without(verdict, &Model::since_comes_first, "with since when after the name");
  fails_without(verdict, &Model::frame_before_is_spared, "with names of the last frame given up");
  fails_without(verdict, &Model::number_waits, "with a new number where a write failed");
  fails_without(verdict, &Model::reader_tries_both, "with a reader of the newest frame alone");
  fails_without(verdict, &Model::reader_looks_at_since, "with a reader of names alone");
  fails_without(verdict, &Model::reader_reads_since_last, "with names read after since when");
  fails_without(verdict, &Model::points_are_not_newer, "with points newer than the names");
  return verdict.exit_code();
}
