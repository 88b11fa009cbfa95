// Is a cover of cubes a tautology? Recursion by cofactors, each a new cover whose cubes are copied
// one by one: many small blocks of a few sizes with stack-like lifetimes, and arrays that grow by
// realloc (as espresso).
#include "workload.hpp"

using namespace workload;

namespace {

using Word = uint32_t;  // two bits a variable: may be 0, may be 1

struct Cover {
  Word** cubes = nullptr;
  uint32_t count = 0;
  uint32_t capacity = 0;

  void add(Word* cube) {
    if (count == capacity) {
      capacity = capacity == 0 ? 4 : capacity * 2;
      cubes = static_cast<Word**>(std::realloc(cubes, capacity * sizeof(Word*)));
      if (cubes == nullptr) std::abort();
    }
    cubes[count++] = cube;
  }
  void destroy() {
    for (uint32_t i = 0; i < count; ++i) std::free(cubes[i]);
    std::free(cubes);
  }
};

struct Problem {
  uint32_t variables;
  uint32_t words;
  long calls;

  Word* new_cube() const {
    auto* cube = static_cast<Word*>(std::calloc(words, sizeof(Word)));
    if (cube == nullptr) std::abort();
    return cube;
  }
  static Word field(const Word* cube, uint32_t v) { return cube[v / 16] >> (v % 16 * 2) & 3; }
  static void set_field(Word* cube, uint32_t v, Word value) {
    const uint32_t shift = v % 16 * 2;
    cube[v / 16] = (cube[v / 16] & ~(Word{3} << shift)) | value << shift;
  }
  bool is_universe(const Word* cube) const {
    for (uint32_t v = 0; v < variables; ++v) {
      if (field(cube, v) != 3) return false;
    }
    return true;
  }

  Cover cofactor(const Cover& cover, uint32_t v, Word value) const {
    Cover result;
    for (uint32_t i = 0; i < cover.count; ++i) {
      if ((field(cover.cubes[i], v) & value) == 0) continue;
      Word* cube = new_cube();
      std::copy_n(cover.cubes[i], words, cube);
      set_field(cube, v, 3);
      result.add(cube);
    }
    return result;
  }

  bool is_tautology(const Cover& cover, uint32_t v) {
    if (--calls < 0 || cover.count == 0 || v == variables) return false;
    for (uint32_t i = 0; i < cover.count; ++i) {
      if (is_universe(cover.cubes[i])) return true;
    }
    bool result = true;
    for (Word value :
         {Word{1}, Word{2}}) {  // both sides, even when the first decided: a fixed amount of work
      Cover half = cofactor(cover, v, value);
      result = is_tautology(half, v + 1) && result;
      half.destroy();
    }
    return result;
  }
};

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long problems = args.work(2000);
  Random random(1);
  long tautologies = 0;
  for (long i = 0; i < problems; ++i) {
    const uint32_t variables = random.between(16, 120);
    Problem problem{variables, (variables + 15) / 16, 2000};
    Cover cover;
    for (uint32_t c = random.between(40, 160); c > 0; --c) {
      Word* cube = problem.new_cube();
      for (uint32_t v = 0; v < variables; ++v) {
        const uint32_t choice = random.below(10);
        Problem::set_field(cube, v, choice < 2 ? choice + 1 : 3);
      }
      cover.add(cube);
    }
    tautologies += problem.is_tautology(cover, 0) ? 1 : 0;
    cover.destroy();
  }
  std::printf("%ld tautologies\n", tautologies);
}
