#include "network/socket_provider.h"

#include "base/strings.h"
#include "network/fd_message.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>

#include <fcntl.h>
#include <sys/socket.h>

namespace postern::network {
namespace {

using base::Errc;

// Longer than the server's own limit for connecting: its error says more than ours.
constexpr std::chrono::seconds kAnswerWithin{12};

base::Result<base::Fd> openRequest(const std::string& path, std::string_view line) {
  const net::Address address = net::Address::unixPath(path);
  base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return base::failErrno("socket provider: cannot open a socket");
  if (::connect(fd.get(), address.sockaddrPtr(), address.length()) != 0) {
    return base::failErrno("socket provider: cannot reach it");
  }
  POSTERN_TRY_VOID(sendWithFd(fd.get(), line, -1));
  return fd;
}

}  // namespace

struct SocketProvider::Request : event::Deferred {
  Request(SocketProvider& owner, Callback to)
      : provider(owner), callback(std::move(to)), timer(owner.loop_, [this] { timeOut(); }) {}

  void timeOut() {
    if (early) {
      provider.finish(this, std::unexpected(*early));
    } else {
      provider.finish(this, base::fail(Errc::kTimeout, "socket provider: no answer"));
    }
  }

  void readable() {
    const auto more = receiveWithFd(fd.get(), text, received);
    if (!more) return provider.finish(this, std::unexpected(more.error()));
    const std::size_t end = text.find('\n');
    if (end != std::string::npos) return provider.finish(this, answer(text.substr(0, end)));
    if (!*more || text.size() > 4 * kSocketRequestBytesMax) {
      provider.finish(this, base::fail(Errc::kProtocol, "socket provider: broken answer"));
    }
  }

  base::Result<base::Fd> answer(const std::string& line) {
    if (line.starts_with("ok ") && received) {
      ::fcntl(received.get(), F_SETFL, ::fcntl(received.get(), F_GETFL) | O_NONBLOCK);
      return std::move(received);
    }
    const auto words = base::split(line, ' ');
    if (words.size() >= 2 && words[0] == "error") {
      if (const auto code = base::parseInteger<int>(words[1]); code && *code > 0) {
        return std::unexpected(base::errnoError("socket provider", *code));
      }
      return base::fail(Errc::kUnavailable, "socket provider: refused");
    }
    return base::fail(Errc::kProtocol, "socket provider: broken answer");
  }

  SocketProvider& provider;
  Callback callback;
  base::Fd fd;
  std::string text;
  base::Fd received;
  std::optional<base::Error> early;  // what went wrong while asking
  event::Timer timer;
  event::FdWatch watch;
};

SocketProvider::SocketProvider(event::Loop& loop, std::string path)
    : loop_(loop), path_(std::move(path)) {}

SocketProvider::~SocketProvider() = default;

void SocketProvider::ask(const char* verb, const net::Address& address, Callback callback) {
  auto request = std::make_unique<Request>(*this, std::move(callback));
  auto opened = requests_.size() >= kSocketRequestsMax
                    ? base::fail(Errc::kLimitExceeded, "socket provider: too many requests")
                    : openRequest(path_, fmt::format("{} {}\n", verb, address.toString()));
  if (opened) {
    request->fd = std::move(*opened);
    request->watch = event::FdWatch(loop_, request->fd.get(),
                                    [r = request.get()](std::uint32_t) { r->readable(); });
    request->timer.arm(kAnswerWithin);
  } else {
    request->early = opened.error();
    request->timer.arm({});
  }
  requests_.push_back(std::move(request));
}

void SocketProvider::finish(Request* request, base::Result<base::Fd> result) {
  const auto at = std::find_if(requests_.begin(), requests_.end(),
                               [&](const auto& each) { return each.get() == request; });
  const Callback callback = std::move(request->callback);
  request->watch.reset();
  request->timer.cancel();
  loop_.destroyLater(std::move(*at));
  requests_.erase(at);
  callback(std::move(result));  // may destroy this object
}

void SocketProvider::connect(const net::Address& address, Callback callback) {
  ask("connect", address, std::move(callback));
}

void SocketProvider::listen(const net::Address& address, Callback callback) {
  ask("listen", address, std::move(callback));
}

void SocketProvider::udp(const net::Address& address, Callback callback) {
  ask("udp", address, std::move(callback));
}

base::Function<void(net::Address, base::Function<void(base::Result<base::Fd>)>)> socketConnectHook(
    event::Loop& loop, const std::string& path) {
  return [provider = std::make_unique<SocketProvider>(loop, path)](
             net::Address address, base::Function<void(base::Result<base::Fd>)> done) {
    provider->connect(address, std::move(done));
  };
}

}  // namespace postern::network
