// A small model checker: all interleavings of a model's atomic steps, each state visited once,
// breadth first, so that the way to a violation that it prints is a shortest one.
//
// A model has
//
//   kThreads                      how many threads there are
//   State                         bytes only, comparable by memcmp
//   State start()
//   bool done(state, t)           the thread has ended
//   int choices(state, t)         in how many ways it can take its next step now; 0: it waits
//   const char* step(state&, t, choice)   takes it; what went wrong, or nullptr
//   const char* broken(state)     an invariant of every state that does not hold, or nullptr
//   const char* broken_at_end(state)      likewise when all threads have ended
//   int where(state, t)           its program counter, for the printed way
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace tally::model {

struct Result {
  const char* violation = nullptr;
  size_t states = 0;
  size_t ends = 0;  // states in which all threads have ended
  std::string way;  // thread@place of each step
};

template <class Model>
class Checker {
  using State = typename Model::State;
  static_assert(std::has_unique_object_representations_v<State>,
                "states are compared by their bytes");

 public:
  explicit Checker(const Model& model) : model_(model) {}

  Result run() {
    visit(model_.start(), 0, 0);
    for (size_t at = 0; at < states_.size() && result_.violation == nullptr; ++at) expand(at);
    result_.states = states_.size();
    return result_;
  }

 private:
  struct Step {
    size_t from;
    int thread;
  };
  struct Hash {
    size_t operator()(const State& state) const {
      uint64_t hash = 14695981039346656037U;
      auto* bytes = reinterpret_cast<const unsigned char*>(&state);
      for (size_t i = 0; i < sizeof state; ++i) hash = (hash ^ bytes[i]) * 1099511628211U;
      return hash;
    }
  };
  struct Equal {
    bool operator()(const State& a, const State& b) const { return memcmp(&a, &b, sizeof a) == 0; }
  };

  void visit(const State& state, size_t from, int thread) {
    auto [entry, is_new] = index_.try_emplace(state, states_.size());
    if (!is_new) return;
    states_.push_back(state);
    steps_.push_back({from, thread});
    if (const char* broken = model_.broken(state)) found(broken, states_.size() - 1);
  }

  void expand(size_t at) {
    const State state = states_[at];
    bool all_done = true, can_go = false;
    for (int t = 0; t < Model::kThreads; ++t) {
      if (model_.done(state, t)) continue;
      all_done = false;
      int choices = model_.choices(state, t);
      for (int choice = 0; choice < choices; ++choice) {
        can_go = true;
        State next = state;
        const char* wrong = model_.step(next, t, choice);
        if (wrong != nullptr) {
          steps_.push_back({at, t});
          states_.push_back(next);
          return found(wrong, states_.size() - 1);
        }
        visit(next, at, t);
        if (result_.violation != nullptr) return;
      }
    }
    if (all_done) {
      ++result_.ends;
      if (const char* broken = model_.broken_at_end(state)) found(broken, at);
    } else if (!can_go) {
      found("deadlock", at);
    }
  }

  void found(const char* violation, size_t at) {
    if (result_.violation != nullptr) return;
    result_.violation = violation;
    for (; at != 0; at = steps_[at].from) {
      int thread = steps_[at].thread;
      int place = model_.where(states_[steps_[at].from], thread);
      result_.way.insert(0, " " + std::to_string(thread) + "@" + std::to_string(place));
    }
  }

  const Model& model_;
  std::vector<State> states_;
  std::vector<Step> steps_;
  std::unordered_map<State, size_t, Hash, Equal> index_;
  Result result_;
};

// What main() does: a model holds, or, with a step left out, does not.
class Verdict {
 public:
  template <class Model>
  void holds(const char* name, const Model& model) {
    Result result = Checker<Model>(model).run();
    printf("%-58s %8zu states, %6zu ends: %s\n", name, result.states, result.ends,
           result.violation == nullptr ? "holds" : result.violation);
    if (result.violation != nullptr) printf("  way:%s\n", result.way.c_str());
    if (result.violation != nullptr || result.ends == 0) failed_ = true;
  }
  template <class Model>
  void fails(const char* name, const Model& model) {
    Result result = Checker<Model>(model).run();
    printf("%-58s %8zu states: %s\n", name, result.states,
           result.violation == nullptr ? "NOT FOUND" : result.violation);
    if (result.violation == nullptr) failed_ = true;
  }
  int exit_code() const { return failed_ ? 1 : 0; }

 private:
  bool failed_ = false;
};

}  // namespace tally::model
