// Text into a fixed buffer, without allocating and without libc's stdio: for reports, JSON and
// messages. With a flush function a full buffer is written on; without, what does not fit is
// counted and dropped, as snprintf does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tally::core {

class TextWriter {
 public:
  using Flush = bool (*)(void* to, const char* text, size_t length);

  TextWriter(char* buffer, size_t capacity, Flush write_on = nullptr, void* to = nullptr)
      : buffer_(buffer), capacity_(capacity), flush_(write_on), to_(to) {}

  TextWriter& put(char c) {
    if (used_ == capacity_ && flush_ != nullptr) flush();
    if (used_ < capacity_) buffer_[used_++] = c;
    ++length_;
    return *this;
  }
  TextWriter& put(const char* text) {
    while (*text != 0) put(*text++);
    return *this;
  }
  TextWriter& put(const char* text, size_t length) {
    for (size_t i = 0; i < length; ++i) put(text[i]);
    return *this;
  }
  TextWriter& number(uint64_t n) {
    char digits[20];
    unsigned count = 0;
    do {
      digits[count++] = static_cast<char>('0' + n % 10);
      n /= 10;
    } while (n != 0);
    while (count != 0) put(digits[--count]);
    return *this;
  }
  TextWriter& hex(uint64_t n) {
    put("0x");
    int shift = 60;
    while (shift > 0 && (n >> shift) == 0) shift -= 4;
    for (; shift >= 0; shift -= 4) put("0123456789abcdef"[n >> shift & 15]);
    return *this;
  }
  TextWriter& spaces(size_t n) {
    while (n-- != 0) put(' ');
    return *this;
  }

  // Writes on what is still in the buffer; false if any write failed.
  bool flush() {
    if (flush_ != nullptr && used_ != 0) {
      ok_ = flush_(to_, buffer_, used_) && ok_;
      used_ = 0;
    }
    return ok_;
  }
  // Of all that was put, kept or not.
  size_t length() const { return length_; }
  size_t used() const { return used_; }

 private:
  char* buffer_;
  size_t capacity_;
  Flush flush_;
  void* to_;
  size_t used_ = 0;
  size_t length_ = 0;
  bool ok_ = true;
};

}  // namespace tally::core
