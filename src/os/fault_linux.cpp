// fault.h for Linux.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "os/fault.h"
#include "os/os.h"
#include "os/system_call.h"

namespace tally::core::os {
namespace {

bool (*g_handler)(const Fault&);
constinit struct sigaction g_before = {};

#if defined(__x86_64__)
uintptr_t code_of(const ucontext_t& context) {
  return static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
}
Fault::Access access_of(const ucontext_t& context) {
  constexpr long kWrite = 2;  // of a page fault's error code
  return (context.uc_mcontext.gregs[REG_ERR] & kWrite) != 0 ? Fault::Access::kWrite
                                                            : Fault::Access::kRead;
}
constexpr bool kAlwaysHasContext = true;
// The thread's last page fault: where the signal was sent, an earlier one, if there was any.
bool last_fault(const ucontext_t& context, uintptr_t* address) {
  constexpr long kPageFault = 14;
  *address = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_CR2]);
  return context.uc_mcontext.gregs[REG_TRAPNO] == kPageFault;
}
#elif defined(__aarch64__)
uintptr_t code_of(const ucontext_t& context) { return context.uc_mcontext.pc; }
Fault::Access access_of(const ucontext_t& context) {
  // Records, each with its length, up to an empty one.
  const unsigned char* at = context.uc_mcontext.__reserved;
  const unsigned char* end = at + sizeof context.uc_mcontext.__reserved;
  struct {
    uint32_t magic, bytes;
    uint64_t esr;
  } record;
  constexpr uint32_t kEsr = 0x45535201;
  constexpr uint64_t kWrite = 1 << 6;
  while (static_cast<size_t>(end - at) >= sizeof record) {
    memcpy(&record, at, sizeof record);
    if (record.magic == kEsr) {
      return (record.esr & kWrite) != 0 ? Fault::Access::kWrite : Fault::Access::kRead;
    }
    if (record.magic == 0 || record.bytes == 0) break;
    at += record.bytes;
  }
  return Fault::Access::kUnknown;
}
constexpr bool kAlwaysHasContext = false;
bool last_fault(const ucontext_t& /*context*/, uintptr_t* /*address*/) { return false; }
#endif

// What can be read of our handler's arguments. Who puts back by signal() what signal() gave him
// makes it one that takes the number alone: then the kernel leaves `info` as the stack was, and on
// aarch64 passes no context either. And a handler of that kind that calls ours knows of neither.
enum class Given : uint8_t { kBoth, kContext, kNeither };

void on_segv(int signal, siginfo_t* info, void* context);

Given what_is_given(int signal, const siginfo_t* info) {
  struct sigaction now;
  if (sigaction(signal, nullptr, &now) != 0) return Given::kBoth;
  if ((now.sa_flags & SA_SIGINFO) != 0) return Given::kBoth;
  // Somebody's handler has reset it, and calls ours: how it was installed itself is not known.
  if (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) {
    return is_readable(info) && info->si_signo == signal ? Given::kBoth : Given::kNeither;
  }
  return kAlwaysHasContext && now.sa_sigaction == on_segv ? Given::kContext : Given::kNeither;
}

bool find_fault(Given given, const siginfo_t* info, const void* context, Fault* fault) {
  if (given == Given::kNeither) return false;
  const auto& state = *static_cast<const ucontext_t*>(context);
  fault->code = code_of(state);
  fault->access = access_of(state);
  if (given == Given::kContext) return last_fault(state, &fault->address);
  fault->address = address(info->si_addr);
  return info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR;
}

void pass_on(int signal, siginfo_t* info, void* context, Given given) {
  const bool may_be_sent = given != Given::kBoth || info->si_code <= 0;
  if ((g_before.sa_flags & SA_SIGINFO) != 0) {
    sigprocmask(SIG_BLOCK, &g_before.sa_mask, nullptr);
    return g_before.sa_sigaction(signal, info, context);
  }
  if (g_before.sa_handler == SIG_IGN && given == Given::kBoth && may_be_sent) return;
  if (g_before.sa_handler != SIG_DFL && g_before.sa_handler != SIG_IGN) {
    sigprocmask(SIG_BLOCK, &g_before.sa_mask, nullptr);
    return g_before.sa_handler(signal);
  }
  // The instruction faults again; what somebody sent must be sent again, and what may have been
  // can: it ends the process at that instruction, as the fault would, or is ignored.
  sigaction(signal, &g_before, nullptr);
  if (may_be_sent) system_call(__NR_tgkill, process_id(), thread_id(), signal);
}

void on_segv(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const Given given = what_is_given(signal, info);
  Fault fault;
  const bool is_done = find_fault(given, info, context, &fault) && g_handler(fault);
  errno = error;
  if (!is_done) pass_on(signal, info, context, given);
}

}  // namespace

bool on_fault(bool (*handler)(const Fault& fault)) {
  g_handler = handler;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_segv;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  const int error = errno;
  const bool ok =
      sigaction(SIGSEGV, nullptr, &g_before) == 0 && sigaction(SIGSEGV, &action, nullptr) == 0;
  errno = error;
  return ok;
}

}  // namespace tally::core::os
