// The record between the threads of the process that writes it, and whoever asks for something:
//
//   Turn      runtime/recorder.cpp's step, publish, end_record and let_go_of_record, and
//             record/file.cpp's write, find_again, unlink and leave: forks in the middle, a closed
//             descriptor, and an end that does not get its turn
//   Requests  record/request.cpp's serve and record/writer.cpp's serve_request against
//             tools/tally/request.cpp's send_request, by tools that lose patience
//
// Its pieces: pieces_model.cpp.
#include "checker.h"

namespace tally::model {
namespace {

// ---- The turn. A process with two threads, one of which a signal handler forks in, wherever it
// is; its child goes on from there. Descriptor 0 leads to the record, 1 to a file of the program's.

struct TurnModel {
  static constexpr int kThreads = 4;
  static constexpr int kFirst = 0, kSecond = 1, kChild = 2, kEnder = 3;
  static constexpr uint8_t kEnd = 99, kNowhere = 9;

  bool turn_is_taken = true;         // before a publication
  bool publish_asks_whose = true;    // the file is, once a write failed
  bool end_keeps_descriptor = true;  // where the end did not get its turn
  bool child_lets_go = true;
  bool lets_go_though_it_ends = true;  // of what its parent is about to end
  bool child_may_begin = true;  // a step that a fork came into does not end the child's record

  struct Process {
    uint8_t turn;  // 0, or 1 + who has it
    uint8_t is_on, is_to_start, fd;
  };
  struct State {
    Process parent, child;
    uint8_t exists;     // at the path
    uint8_t is_reused;  // the descriptor's number leads to another file by now
    uint8_t at[kThreads];
    uint8_t forked, closed;  // they were
    uint8_t publishing[kThreads];
    uint8_t retried[kThreads];
  };

  State start() const {
    State s = {};
    s.parent = {0, 1, 0, 0};
    s.child = {0, 0, 0, kNowhere};
    s.exists = 1;
    s.at[kChild] = 50;  // until there is one
    return s;
  }
  static Process& process(State& s, int t) { return t == kChild ? s.child : s.parent; }
  bool done(const State& s, int t) const {
    return s.at[t] == kEnd || (t == kChild && s.at[t] == 50 && s.at[kFirst] == kEnd);
  }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State& s, int t) const {
    if (t == kChild) return s.at[t] == 50 ? 0 : 1;
    // A fork, or the program's closing of all descriptors, comes in between.
    if (t == kFirst) return s.at[t] == kEnd ? 0 : s.forked ? 1 : 2;
    if (t == kSecond) return s.closed ? 1 : 2;
    return 1;
  }

  const char* step(State& s, int t, int choice) const {
    if (choice == 1 && t == kFirst) return forks(s);
    if (choice == 1) {  // close_range(3, ~0), and another file is opened
      s.closed = 1;
      s.is_reused = s.parent.fd == 0 ? 1 : s.is_reused;
      return nullptr;
    }
    return t == kEnder ? ends(s) : publishes(s, t);
  }

  const char* forks(State& s) const {
    s.forked = 1;
    s.child = s.parent;
    s.at[kChild] = s.at[kFirst];
    s.publishing[kChild] = s.publishing[kFirst];
    s.retried[kChild] = s.retried[kFirst];
    // let_go_of_record
    const bool lets_go = child_lets_go && (lets_go_though_it_ends || s.child.is_on);
    if (lets_go) s.child.fd = kNowhere;
    if (lets_go && s.child.is_on) s.child = {0, 1, 1, kNowhere};
    return nullptr;
  }

  const char* publishes(State& s, int t) const {
    Process& mine = process(s, t);
    uint8_t& at = s.at[t];
    switch (at) {
      case 0:  // step
        if (turn_is_taken && mine.turn != 0) {
          at = kEnd;
          return nullptr;
        }
        mine.turn = static_cast<uint8_t>(1 + t);
        at = 1;
        return nullptr;
      case 1:
        at = !mine.is_on ? 7 : 2;
        if (at == 2 && mine.is_to_start) {
          mine.is_to_start = 0;  // a file of its own
          at = 7;
        } else if (at == 2) {
          s.publishing[t] = 1;
        }
        return nullptr;
      case 2:  // File::write: whether the descriptor leads there
        at = mine.fd == 0 && !s.is_reused ? 3 : 4;
        return nullptr;
      case 3:  // and the write
        // The number, which the child closed: that is an error, for which the record is removed.
        if (t == kChild && mine.fd == kNowhere) {
          at = 5;
          return publish_asks_whose ? nullptr : "a child removes its parent's record";
        }
        if (t == kChild) return "a child writes to its parent's record";
        if (s.is_reused && s.closed == 0) return "a file of the program's is written to";
        at = 6;
        return nullptr;
      case 4:  // find_again: once
        at = 5;
        if (s.retried[t] || !s.exists || (publish_asks_whose && t == kChild)) return nullptr;
        s.retried[t] = 1;
        mine.fd = 0;
        if (t != kChild) s.is_reused = 0;
        at = 2;
        return nullptr;
      case 5:  // ESTALE: there is no record any more
        if (!mine.is_to_start || !child_may_begin) mine.is_on = 0;
        mine.fd = kNowhere;
        at = 6;
        return nullptr;
      case 6:
        s.publishing[t] = 0;
        at = 7;
        return nullptr;
      default:
        if (mine.turn == 1 + t || t == kChild) mine.turn = 0;
        at = kEnd;
        return nullptr;
    }
  }

  // end_record. It may find that the turn does not come in time: that is where it finds it taken.
  const char* ends(State& s) const {
    uint8_t& at = s.at[kEnder];
    switch (at) {
      case 0:
        at = s.parent.is_on ? 1 : kEnd;
        s.parent.is_on = 0;
        return nullptr;
      case 1:
        at = s.parent.turn == 0 ? 2 : 4;
        if (at == 2) s.parent.turn = 1 + kEnder;
        return nullptr;
      case 2:  // the last publication
        at = 3;
        s.publishing[kEnder] = 1;
        return nullptr;
      case 3:  // finish
        s.publishing[kEnder] = 0;
        s.exists = 0;
        s.parent.fd = kNowhere;
        at = kEnd;
        return nullptr;
      default:  // finish_beside
        s.exists = 0;
        if (!end_keeps_descriptor) s.is_reused = 1;
        at = kEnd;
        return nullptr;
    }
  }

  const char* broken(const State& s) const {
    return s.publishing[kFirst] + s.publishing[kSecond] + s.publishing[kEnder] > 1
               ? "two threads publish at once"
               : nullptr;
  }
  const char* broken_at_end(const State& s) const {
    bool has_child = s.forked && s.at[kChild] == kEnd;
    if (has_child && s.child.is_on && s.child.turn != 0) return "a child's turn is taken for ever";
    if (has_child && s.child.is_to_start && !s.child.is_on)
      return "a child never begins its record";
    return nullptr;
  }
};

// ---- Requests, by two tools in turn. A request is written as two halves. A tool loses patience at
// any moment.

struct RequestModel {
  static constexpr int kThreads = 3;
  static constexpr int kProcess = 2;
  static constexpr uint8_t kEnd = 99;

  bool withdrawn_keeps_number = true;
  bool has_checksum = true;
  bool process_counts = true;  // does what is newer than the last alone
  bool tools_lock = true;
  bool reply_has_number = true;

  struct State {
    uint8_t number[2], by[2];  // of the request's halves; by: 1 + the tool, 0: withdrawn
    uint8_t reply, replied_to;
    uint8_t lock, served;
    uint8_t did[2], told[2], begun_late[2], withdrew[2];
    uint8_t at[kThreads];
    uint8_t saw[2], mine[2], taken_number, taken_by, looks;
  };

  State start() const {
    State s = {};
    s.looks = 6;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State& s, int t) const {
    if (t == kProcess) return 1;
    if (s.at[t] == 0 && tools_lock && s.lock != 0) return 0;
    return s.at[t] == 5 ? 2 : 1;
  }
  const char* step(State& s, int t, int choice) const {
    return t == kProcess ? serves(s) : asks(s, t, choice);
  }

  static uint8_t whole(const State& s) {
    return s.number[0] == s.number[1] && s.by[0] == s.by[1] ? s.number[0] : uint8_t{0};
  }

  const char* asks(State& s, int t, int choice) const {
    uint8_t& at = s.at[t];
    const auto me = static_cast<uint8_t>(1 + t);
    switch (at) {
      case 0:
        s.lock = me;
        at = 1;
        return nullptr;
      case 1:
        s.saw[t] = whole(s);
        at = 2;
        return nullptr;
      case 2:
        s.mine[t] = static_cast<uint8_t>((s.reply > s.saw[t] ? s.reply : s.saw[t]) + 1);
        at = 3;
        return nullptr;
      case 3:
      case 4:
        s.number[at - 3] = s.mine[t];
        s.by[at - 3] = me;
        ++at;
        return nullptr;
      case 5:
        if (choice == 0) {
          if (has_reply(s, t)) at = 9;
          return nullptr;
        }
        at = 6;
        return nullptr;
      case 6:
        s.number[0] = withdrawn_keeps_number ? s.mine[t] : uint8_t{0};
        s.by[0] = 0;
        at = 7;
        return nullptr;
      case 7:
        s.number[1] = s.number[0];
        s.by[1] = 0;
        s.withdrew[t] = 1;
        at = 8;
        return nullptr;
      case 8:
        at = has_reply(s, t) ? 9 : 10;
        return nullptr;
      case 9:
        s.told[t] = 1;
        if (!s.did[t]) return "a tool is told that what it asked for was done, and it was not";
        at = 10;
        return nullptr;
      default:
        s.lock = 0;
        at = kEnd;
        return nullptr;
    }
  }
  bool has_reply(const State& s, int t) const {
    return reply_has_number ? s.reply == s.mine[t] : s.reply != 0;
  }

  const char* serves(State& s) const {
    uint8_t& at = s.at[kProcess];
    switch (at) {
      case 0:  // the sequence alone, as most often there is nothing
        if (s.looks-- == 0) {
          s.looks = 0;
          at = kEnd;
          return nullptr;
        }
        if (s.number[0] > s.served || !process_counts) at = 1;
        return nullptr;
      case 1:
        s.taken_number = s.number[0];
        s.taken_by = s.by[0];
        at = 2;
        return nullptr;
      case 2: {
        bool is_whole = s.taken_number == s.number[1] && s.taken_by == s.by[1];
        if (!is_whole && has_checksum) {
          at = 0;
        } else if (!is_whole) {
          return "half a request is done";
        } else {
          at = s.taken_by == 0 ? 0 : 3;  // withdrawn: there is nothing to do
        }
        return nullptr;
      }
      case 3:
        if (s.did[s.taken_by - 1]++) return "a request is done twice";
        at = 4;
        return nullptr;
      case 4:
        s.served = s.taken_number;
        at = 5;
        return nullptr;
      default:
        s.reply = s.taken_number;
        s.replied_to = s.taken_by;
        at = 0;
        return nullptr;
    }
  }

  const char* broken(const State&) const { return nullptr; }
  const char* broken_at_end(const State& s) const {
    return s.lock != 0 ? "a request stays locked" : nullptr;
  }
};

}  // namespace
}  // namespace tally::model

int main() {
  using namespace tally::model;
  Verdict verdict;
  TurnModel turn;
  verdict.holds("the turn, forks in it, a lost descriptor, the end", turn);
  turn = {};
  turn.turn_is_taken = false;
  verdict.fails("without the turn", turn);
  turn = {};
  turn.publish_asks_whose = false;
  verdict.fails("with a file that is found again whosever it is", turn);
  turn = {};
  turn.child_lets_go = false;
  verdict.fails("with a child that keeps its parent's record", turn);
  turn = {};
  turn.lets_go_though_it_ends = false;
  verdict.fails("with a child that keeps what its parent is ending", turn);
  turn = {};
  turn.child_may_begin = false;
  verdict.fails("with a fork's child that ends its record before it began", turn);
  turn = {};
  turn.end_keeps_descriptor = false;
  verdict.fails("with an end that closes what another may be writing to", turn);

  RequestModel request;
  verdict.holds("requests, of tools that lose patience", request);
  request = {};
  request.withdrawn_keeps_number = false;
  verdict.fails("with a number that is used again when one was withdrawn", request);
  request = {};
  request.has_checksum = false;
  verdict.fails("without a request's checksum", request);
  request = {};
  request.process_counts = false;
  verdict.fails("with a process that does not count requests", request);
  request = {};
  request.tools_lock = false;
  verdict.fails("without the lock of tools", request);
  request = {};
  request.reply_has_number = false;
  verdict.fails("with a reply to whomever", request);
  return verdict.exit_code();
}
