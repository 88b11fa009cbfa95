// Factoring by continued fractions, every number a small counted object on the heap: tens of
// millions of blocks of 16 to 32 bytes that live for a few operations, and a few that stay (as
// cfrac).
#include <utility>

#include "workload.hpp"

using namespace workload;

namespace {

__extension__ using Wide = unsigned __int128;

// A number in 16-bit digits, as long as it needs to be, shared by counting.
class Number {
 public:
  explicit Number(Wide value) {
    uint32_t digits = 1;
    for (Wide rest = value >> 16; rest != 0; rest >>= 16) ++digits;
    body_ = static_cast<Body*>(std::malloc(sizeof(Body) + digits * sizeof(uint16_t)));
    if (body_ == nullptr) std::abort();
    body_->references = 1;
    body_->digits = digits;
    for (uint32_t i = 0; i < digits; ++i) digit(i) = static_cast<uint16_t>(value >> (16 * i));
  }
  Number(const Number& other) : body_(other.body_) { ++body_->references; }
  Number& operator=(const Number& other) {
    ++other.body_->references;
    drop();
    body_ = other.body_;
    return *this;
  }
  ~Number() { drop(); }

  Wide value() const {
    Wide value = 0;
    for (uint32_t i = body_->digits; i-- > 0;) value = value << 16 | digit(i);
    return value;
  }
  friend Number operator+(const Number& a, const Number& b) {
    return Number(a.value() + b.value());
  }
  friend Number operator-(const Number& a, const Number& b) {
    return Number(a.value() - b.value());
  }
  friend Number operator*(const Number& a, const Number& b) {
    return Number(a.value() * b.value());
  }
  friend Number operator/(const Number& a, const Number& b) { return divide(a, b, true); }
  friend Number operator%(const Number& a, const Number& b) { return divide(a, b, false); }
  bool is_zero() const { return body_->digits == 1 && digit(0) == 0; }

 private:
  struct Body {
    uint32_t references;
    uint32_t digits;
  };
  uint16_t& digit(uint32_t i) const { return reinterpret_cast<uint16_t*>(body_ + 1)[i]; }
  void drop() {
    if (--body_->references == 0) std::free(body_);
  }
  // Division of 128 bits is slow, and most of these fit 64.
  static Number divide(const Number& a, const Number& b, bool quotient) {
    const Wide x = a.value(), y = b.value();
    if ((x | y) >> 64 == 0) {
      const auto x64 = static_cast<uint64_t>(x), y64 = static_cast<uint64_t>(y);
      return Number(quotient ? x64 / y64 : x64 % y64);
    }
    return Number(quotient ? x / y : x % y);
  }
  Body* body_;
};

Wide square_root(Wide n) {
  Wide low = 0, high = Wide{1} << 60;
  while (low < high) {
    const Wide middle = (low + high + 1) / 2;
    if (middle * middle <= n) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

struct Relation {
  Number a, q;
  Relation* next;
};

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long steps = args.work(450000);
  const Number n(Wide{1208925819614629} * 1000000007 + 36);  // about 80 bits
  const Number root(square_root(n.value()));

  std::vector<Number> primes;
  for (uint32_t p = 2; primes.size() < 60; ++p) {
    bool prime = true;
    for (uint32_t d = 2; d * d <= p; ++d) prime = prime && p % d != 0;
    if (prime) primes.emplace_back(p);
  }
  // The expansion of sqrt(n): p and q as usual, a the numerator of the convergent modulo n.
  Number p(root), q(n - root * root), q_before(1), a(root), a_before(1);
  Relation* relations = nullptr;
  long smooth = 0;
  for (long step = 0; step < steps && !q.is_zero(); ++step) {
    const Number term = (root + p) / q;
    const Number p_next = term * q - p;
    const Number q_next = q_before + term * p - term * p_next;
    const Number a_next = (term * a + a_before) % n;
    q_before = q;
    q = q_next;
    p = p_next;
    a_before = a;
    a = a_next;
    Number rest(q);
    for (const Number& prime : primes) {
      while (!rest.is_zero() && (rest % prime).is_zero()) rest = rest / prime;
    }
    if (rest.value() < 1000000) {
      relations = new Relation{a, q, relations};
      ++smooth;
    }
  }
  while (relations != nullptr) delete std::exchange(relations, relations->next);
  std::printf("%ld relations\n", smooth);
}
