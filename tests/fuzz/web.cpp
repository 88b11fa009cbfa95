// An input is what a client sends to `tally serve`: every answer is one of HTTP, and its body what
// its type says. The server has a record of a dead process, and /dev/shm of its own.
#include <arpa/inet.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>

#include "../tool/record_file.hpp"
#include "http_server.h"
#include "tool.hpp"
#include "web_api.h"

namespace tally::fuzz {
namespace {

constexpr char kToken[] = "0123456789abcdef";
bool has_own_folder = false;

// So that no process of the machine is shown, let alone limited.
void make_folder() {
  has_own_folder = unshare(CLONE_NEWNS) == 0 &&
                   mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                   mount("none", "/dev/shm", "tmpfs", 0, "size=32m") == 0;
  if (!has_own_folder) return;
  test::RecordFile record;
  record.add_tag("/", 0, 1 << 20);
  record.add_tag("/cache", 640, 65536);
  record.profile.rate = 65536;
  record.add_site(record.add_call(0, 0x1234, record.add_module("/fuzz/a", 0, 9999, 0)), "/cache",
                  {1, 65536});
  const std::string folder = record::kFolderPrefix + std::to_string(geteuid());
  FUZZ_CHECK(mkdir(folder.c_str(), 0700) == 0);
  test::RecordFile::write(folder + "/4711.tally", record.bytes());
}

class Server {
 public:
  Server()
      : api_({.port = 0, .hosts = {"fuzz"}, .token = has_own_folder ? kToken : ""}),
        server_("127.0.0.1", 0,
                [this](const tool::HttpRequest& request) { return api_.answer(request); }) {
    std::thread([this] { server_.run(); }).detach();
  }

  // All that it answers to that.
  std::string answer(const std::string& request) const {
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(server_.port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    FUZZ_CHECK(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    (void)send(client, request.data(), request.size(), MSG_NOSIGNAL);
    shutdown(client, SHUT_WR);
    std::string answer;
    char piece[16384];
    for (ssize_t count; (count = recv(client, piece, sizeof piece, 0)) > 0;) {
      answer.append(piece, size_t(count));
    }
    close(client);
    return answer;
  }

 private:
  tool::WebApi api_;
  tool::HttpServer server_;
};

void check_answer(const std::string& answer) {
  if (answer.empty()) return;  // what was asked had no end
  FUZZ_CHECK(answer.starts_with("HTTP/1."));
  const size_t end = answer.find("\r\n\r\n");
  FUZZ_CHECK(end != std::string::npos);
  check_text(answer.substr(0, answer.find('\r')) + "\n");
  const std::string head = answer.substr(0, end + 2);
  const size_t at = head.find("Content-Length: ");
  FUZZ_CHECK(at != std::string::npos);
  const size_t length = strtoull(head.c_str() + at + strlen("Content-Length: "), nullptr, 10);
  const std::string rest = answer.substr(end + 4), body = rest.substr(0, length);
  if (rest.starts_with("HTTP/1.")) return check_answer(rest);  // that was to HEAD
  if (body.size() < length) return;                            // and so is this
  const auto is = [&head](const char* type) {
    return head.find(std::string("Content-Type: ") + type) != std::string::npos;
  };
  if (is("application/json")) check_json(body);
  if (is("application/openmetrics-text")) check_open_metrics(body);
  if (is("application/octet-stream")) check_pprof(body);
  check_answer(rest.substr(length));  // to the next request of the connection
}

}  // namespace
}  // namespace tally::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto& server = *[] {
    tally::fuzz::make_folder();
    return new tally::fuzz::Server;  // for as long as there is anybody
  }();
  const std::string request(reinterpret_cast<const char*>(data), size);
  std::string wrong;
  try {
    tally::fuzz::check_answer(server.answer(request));
  } catch (const std::runtime_error& error) {
    wrong = error.what();
  }
  if (!wrong.empty()) tally::fuzz::fail("the answer", 0, wrong.c_str());
  return 0;
}
