#include "http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <csignal>
#include <optional>

#include "failure.h"
#include "json_text.h"

namespace tally::tool {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using std::chrono::seconds;

// Of each answer, unless it has its own: nothing of it is kept, sniffed, framed, or read by pages
// of other origins, and it loads nothing.
constexpr const char* kHeaders[][2] = {
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Content-Type-Options", "nosniff"},
};

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// What %41 stands for; a % that begins none stands for itself.
std::string decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high < 0 ? -1 : hex_digit(text[i + 2]);
    out += low < 0 ? text[i] : static_cast<char>(high * 16 + low);
    if (low >= 0) i += 2;
  }
  return out;
}

std::map<std::string, std::string> read_query(std::string_view text) {
  std::map<std::string, std::string> query;
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    const size_t equals = std::min(pair.find('='), pair.size());
    const size_t value = std::min(equals + 1, pair.size());
    query.emplace(decoded(pair.substr(0, equals)), decoded(pair.substr(value)));
  }
  return query;
}

HttpRequest read_request(http::request<http::string_body>&& message) {
  HttpRequest request;
  const std::string target(message.target());
  const size_t end = std::min(target.find('?'), target.size());
  request.method =
      message.method() == http::verb::head ? "GET" : std::string(message.method_string());
  request.path = decoded(std::string_view(target).substr(0, end));
  request.query = read_query(std::string_view(target).substr(std::min(end + 1, target.size())));
  for (const auto& field : message) {
    std::string name(field.name_string());
    for (char& c : name) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
    auto [at, is_new] = request.headers.emplace(name, field.value());
    if (!is_new) at->second += ", " + std::string(field.value());
  }
  request.body = std::move(message.body());
  return request;
}

// What is wrong with what a client sent; none if it went away or said nothing.
std::optional<HttpResponse> complaint(const beast::error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return http_error(431, "the request's head has more than " +
                               std::to_string(HttpServer::kHeaderBytes) + " bytes");
  }
  if (error == http::error::body_limit) {
    return http_error(413, "the request's body has more than " +
                               std::to_string(HttpServer::kBodyBytes) + " bytes");
  }
  const bool is_gone = error == http::error::end_of_stream || error == http::error::partial_message;
  const bool is_of_http = error.category() == beast::error_code(http::error::bad_method).category();
  if (is_gone || !is_of_http) return std::nullopt;
  return http_error(400, "this is no HTTP: " + error.message());
}

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, const HttpServer::Handler& handler, asio::thread_pool& pool,
             std::function<void()> at_end)
      : stream_(std::move(socket)), handler_(handler), pool_(pool), at_end_(std::move(at_end)) {}
  ~Connection() { at_end_(); }

  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // The time is that of the whole request, however slowly it comes.
  void read() {
    parser_.emplace();
    parser_->header_limit(HttpServer::kHeaderBytes);
    parser_->body_limit(HttpServer::kBodyBytes);
    stream_.expires_after(seconds(HttpServer::kRequestSeconds));
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](const beast::error_code& error, size_t) {
                       self->has_read(error);
                     });
  }

 private:
  void has_read(const beast::error_code& error) {
    if (error) {
      std::optional<HttpResponse> response = complaint(error);
      if (response) write(std::move(*response), false, true);
      return;
    }
    const bool keeps = parser_->get().keep_alive();
    const bool has_body = parser_->get().method() != http::verb::head;
    HttpRequest request = read_request(parser_->release());
    beast::error_code unknown;  // the client is gone
    request.local_address = stream_.socket().local_endpoint(unknown).address().to_string();
    // Nothing of the connection stays with the pool's thread, which must not be the one to end it.
    auto answer = [self = shared_from_this(), request = std::move(request), keeps,
                   has_body]() mutable {
      HttpResponse response = self->answer(request);
      auto executor = self->stream_.get_executor();
      asio::post(executor,
                 [self = std::move(self), response = std::move(response), keeps,
                  has_body]() mutable { self->write(std::move(response), keeps, has_body); });
    };
    asio::post(pool_, std::move(answer));
  }

  HttpResponse answer(const HttpRequest& request) const {
    try {
      return handler_(request);
    } catch (const std::exception& error) {
      return http_error(500, error.what());
    }
  }

  void write(HttpResponse&& answer, bool keeps, bool has_body) {
    response_ = {};
    response_.result(answer.status);
    for (const auto& [name, value] : kHeaders) response_.set(name, value);
    response_.set(http::field::content_type, answer.content_type);
    for (const auto& [name, value] : answer.headers) response_.set(name, value);
    response_.body() = std::move(answer.body);
    response_.keep_alive(keeps);
    response_.prepare_payload();
    serializer_.emplace(response_);
    stream_.expires_after(seconds(HttpServer::kResponseSeconds));
    auto done = [self = shared_from_this(), keeps](const beast::error_code& error, size_t) {
      if (!error && keeps) return self->read();
      self->close();
    };
    if (has_body) {
      http::async_write(stream_, *serializer_, done);
    } else {
      http::async_write_header(stream_, *serializer_, done);
    }
  }

  // What the client still sends is taken for a second: closed with something unread, the connection
  // would be reset, and the answer lost.
  void close() {
    beast::error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(seconds(1));
    drain();
  }
  void drain() {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(4096),
                            [self = shared_from_this()](const beast::error_code& error, size_t) {
                              if (!error) self->drain();
                            });
  }

  beast::tcp_stream stream_;
  const HttpServer::Handler& handler_;
  asio::thread_pool& pool_;
  std::function<void()> at_end_;
  beast::flat_buffer buffer_{HttpServer::kHeaderBytes + HttpServer::kBodyBytes};
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> response_;
  std::optional<http::response_serializer<http::string_body>> serializer_;
};

tcp::acceptor listen(asio::io_context& io, const std::string& address, uint16_t port) {
  auto fail = [&](const beast::error_code& error) {
    std::string message = "cannot listen at port " + std::to_string(port) + " of " + address + ": ";
    if (error == asio::error::address_in_use) {
      message += "it is in use; --port says another one, 0 any that is free";
    } else if (error == asio::error::access_denied) {
      message += "only root may use ports below 1024; --port says another one";
    } else if (error.value() == EADDRNOTAVAIL) {
      message += "this machine has no such address";
    } else {
      message += error.message();
    }
    throw Failure(kFailed, message);
  };
  beast::error_code error;
  const tcp::endpoint endpoint(asio::ip::make_address(address, error), port);
  if (error) throw Failure(kFailed, address + ": expected an IP address, such as 127.0.0.1 or ::1");
  tcp::acceptor acceptor(io);
  if (acceptor.open(endpoint.protocol(), error)) fail(error);
  acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (acceptor.bind(endpoint, error)) fail(error);
  if (acceptor.listen(tcp::acceptor::max_listen_connections, error)) fail(error);
  return acceptor;
}

}  // namespace

HttpResponse http_error(unsigned status, const std::string& message) {
  return {status, "application/json", json_text({{"error", message}})};
}

// One thread has all connections; the pool's do no more than answer.
class HttpServer::Listener {
 public:
  Listener(const std::string& address, uint16_t port, Handler handler)
      : handler_(std::move(handler)), acceptor_(listen(io_, address, port)) {}

  uint16_t port() const { return acceptor_.local_endpoint().port(); }

  void run() {
    asio::signal_set signals(io_, SIGINT, SIGTERM);
    signals.async_wait([this](const beast::error_code&, int) { io_.stop(); });
    accept();
    io_.run();
    pool_.stop();  // what nobody has begun to answer is dropped
    pool_.join();
  }

 private:
  void accept() {
    is_accepting_ = true;
    acceptor_.async_accept([this](const beast::error_code& error, tcp::socket socket) {
      if (error) {  // no descriptors are left, or the client has gone already
        pause_.expires_after(std::chrono::milliseconds(100));
        pause_.async_wait([this](const beast::error_code&) { accept(); });
        return;
      }
      is_accepting_ = false;
      ++connections_;
      std::make_shared<Connection>(std::move(socket), handler_, pool_, [this] { end(); })->read();
      if (connections_ < kConnections) accept();
    });
  }

  void end() {
    --connections_;
    if (!is_accepting_ && !io_.stopped()) accept();
  }

  Handler handler_;
  size_t connections_ = 0;
  bool is_accepting_ = false;
  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer pause_{io_};
  asio::thread_pool pool_{kThreads};
};

HttpServer::HttpServer(const std::string& address, uint16_t port, Handler handler)
    : listener_(std::make_unique<Listener>(address, port, std::move(handler))) {}
HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const { return listener_->port(); }
void HttpServer::run() { listener_->run(); }

}  // namespace tally::tool
