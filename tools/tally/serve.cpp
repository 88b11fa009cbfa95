// tally serve: what processes hold, over HTTP.
#include <arpa/inet.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "arguments.h"
#include "commands.h"
#include "http_server.h"
#include "process.h"
#include "text.h"
#include "web_access.h"
#include "web_api.h"

namespace tally::tool {
namespace {

constexpr char kServeHelp[] =
    R"(usage: tally serve [--port N] [--address A] [--host NAME]... [--allow-control]

Serves, until ^C or SIGTERM, what the processes of this user hold (as root those of all users), the
live and the dead: a page that shows it as it changes, metrics for Prometheus, profiles in the pprof
format, and all of it as JSON. To this machine alone, unless --address says otherwise; but to every
user of it. There is no encryption: across a network put it behind a proxy that has some, or take ssh.

  --port N           8255; 0: any that is free, which is printed
  --address A        of this machine, IPv4 or IPv6, to be reached by; 127.0.0.1. 0.0.0.0 or :: are all
  --host NAME        a name by which clients may ask for it, beside localhost and its addresses, as
                     NAME:PORT at that port alone; what is asked by another name is refused, as it
                     may come from a page of somebody who let that name lead here
  --allow-control    limits may be set and memory trimmed by whoever knows a token, which is printed
  --token-file FILE  take the first line of FILE as that token
  --help             this text

Paths, PID being a process id:
  GET /                                    the page
  GET /metrics                             OpenMetrics of all processes
  GET /profile.pb.gz?pid=PID               the sampled heap profile in the pprof format, also as
                                           /debug/pprof/heap and /debug/pprof/allocs
  GET /api/v1/processes                    as tally ps --json prints it
  GET /api/v1/processes/PID                as tally stat --json does
  GET /api/v1/processes/PID/report         as tally report --json does
  GET /api/v1/processes/PID/history        of it what was held when
  GET /api/v1/processes/PID/profile        as tally profile --format json does; ?view=growth&tag=/cache
  GET /api/v1/targets                      what to ask profiles of, for discovery by HTTP
  POST /api/v1/processes/PID/limit         {"tag": "cache", "limit": "512M:soft=400M"}, as tally limit
  POST /api/v1/processes/PID/trim          as tally trim

  tally serve
  tally serve --port 9000 --allow-control --token-file /etc/tally/token
  go tool pprof http://127.0.0.1:8255/profile.pb.gz?pid=4711
  curl -s http://127.0.0.1:8255/api/v1/processes | jq '.[0].live_bytes'

exit status: 0 after SIGINT or SIGTERM; or
  1    the address or the port cannot be had
  2    the command line cannot be understood
  78   the file of the token cannot be read, is for all to read, or holds none
)";

bool is_loopback(const std::string& address) {
  in6_addr six;
  in_addr four;
  if (inet_pton(AF_INET, address.c_str(), &four) == 1) return ntohl(four.s_addr) >> 24 == 127;
  return inet_pton(AF_INET6, address.c_str(), &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

uint16_t read_port(const std::string& text, const Arguments& arguments) {
  const bool is_number =
      !text.empty() && text.size() <= 5 && text.find_first_not_of("0123456789") == text.npos;
  const int port = is_number ? std::stoi(text) : -1;
  if (port < 0 || port > 65535) {
    arguments.fail("--port: " + printable(text) + ": expected a number from 0 to 65535");
  }
  return static_cast<uint16_t>(port);
}

void warn_of_network(const std::string& address, bool has_control) {
  fprintf(
      stderr,
      "tally serve: warning: who reaches %s can read the command lines, tags, stacks and sizes of "
      "all processes of %s%s; nothing is encrypted\n",
      address.c_str(), geteuid() == 0 ? "all users" : user_name(geteuid()).c_str(),
      has_control ? ", and with the token set their limits" : "");
}

}  // namespace

int serve(int argc, char** argv) {
  Arguments arguments(kServeHelp);
  std::string port = "8255", address = "127.0.0.1", token_file;
  WebAccess access = {};
  bool allows_control = false;
  arguments.add_option("--port", port);
  arguments.add_option("--address", address);
  arguments.add_option("--host", access.hosts).take_one();
  const Option control = arguments.add_flag("--allow-control", allows_control);
  arguments.add_option("--token-file", token_file).needs(control);
  if (!arguments.read(argc, argv)) return 0;
  const uint16_t wanted_port = read_port(port, arguments);

  if (allows_control) access.token = token_file.empty() ? make_token() : read_token(token_file);
  WebApi* api = nullptr;
  HttpServer server(address, wanted_port,
                    [&api](const HttpRequest& request) { return api->answer(request); });
  access.port = server.port();
  WebApi answers(access);
  api = &answers;

  if (!is_loopback(address)) warn_of_network(address, allows_control);
  printf("http://%s:%u/ until ^C\n", host_of_address(address).c_str(), unsigned{access.port});
  if (allows_control && token_file.empty()) {
    printf("to control it: -H 'Authorization: Bearer %s' -H 'Content-Type: application/json'\n",
           access.token.c_str());
  }
  fflush(stdout);
  server.run();
  return 0;
}

}  // namespace tally::tool
