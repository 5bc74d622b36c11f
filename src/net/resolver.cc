#include "net/resolver.h"

#include <ares.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <netdb.h>
#include <utility>

namespace postern::net {
namespace {

constexpr int kTimeoutMs = 5000;
constexpr int kTries = 2;

class CaresResolver;

class CaresQuery final : public Resolver::Query {
 public:
  ~CaresQuery() override;
  /// Shared with the library's callback, which may outlive the handle.
  struct State {
    Resolver::Callback callback;
    bool cancelled = false;
    event::Loop* loop = nullptr;
  };
  explicit CaresQuery(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

CaresQuery::~CaresQuery() { state_->cancelled = true; }

int familyOf(DnsFamily family) {
  switch (family) {
    case DnsFamily::kV4Only:
    case DnsFamily::kV4Preferred:
      return AF_INET;
    case DnsFamily::kV6Only:
      return AF_INET6;
    default:
      return AF_UNSPEC;
  }
}

base::Error dnsError(int status) {
  switch (status) {
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
      return {base::Errc::kNotFound, "name not found"};
    case ARES_ETIMEOUT:
      return {base::Errc::kTimeout, "DNS timeout"};
    case ARES_EBADNAME:
      return {base::Errc::kInvalidArgument, "bad name"};
    default:
      return {base::Errc::kUnavailable, "DNS failure"};
  }
}

/// "Auto" keeps one family, as Envoy's lookup families do.
void keepFamily(std::vector<Address>& all, DnsFamily family) {
  if (family == DnsFamily::kAll || family == DnsFamily::kV4Only || family == DnsFamily::kV6Only)
    return;
  sa_family_t first = family == DnsFamily::kAuto ? AF_INET6 : AF_INET;
  bool have =
      std::any_of(all.begin(), all.end(), [&](const Address& a) { return a.family() == first; });
  if (have) std::erase_if(all, [&](const Address& a) { return a.family() != first; });
}

class CaresResolver final : public Resolver {
 public:
  CaresResolver(event::Loop& loop, const Options& options)
      : loop_(loop), timer_(loop, [this] { process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }) {
    static std::once_flag once;
    std::call_once(once, [] { ares_library_init(ARES_LIB_INIT_ALL); });
    ares_options settings{};
    settings.timeout = kTimeoutMs;
    settings.tries = kTries;
    settings.sock_state_cb = [](void* self, ares_socket_t fd, int read, int write) {
      static_cast<CaresResolver*>(self)->watch(fd, read != 0 || write != 0);
    };
    settings.sock_state_cb_data = this;
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    if (options.no_search) {
      settings.flags = ARES_FLAG_NOSEARCH;
      mask |= ARES_OPT_FLAGS;
    }
    if (ares_init_options(&channel_, &settings, mask) != ARES_SUCCESS) channel_ = nullptr;
    if (channel_ != nullptr && !options.servers.empty()) {
      std::string csv;
      for (const Address& server : options.servers)
        csv += (csv.empty() ? "" : ",") + server.toString();
      ares_set_servers_ports_csv(channel_, csv.c_str());
    }
  }

  ~CaresResolver() override {
    watches_.clear();
    closing_ = true;
    if (channel_ != nullptr) ares_destroy(channel_);
  }

  std::unique_ptr<Query> resolve(const std::string& name, DnsFamily family,
                                 Callback callback) override {
    auto state = std::make_shared<CaresQuery::State>();
    state->callback = std::move(callback);
    state->loop = &loop_;
    if (auto numeric = Address::fromIp(name, 0)) {
      deliver(state, DnsAnswer{{*numeric}, std::chrono::hours(1)});
    } else if (channel_ == nullptr) {
      deliver(state, base::fail(base::Errc::kUnavailable, "no resolver"));
    } else {
      ask(name, family, state);
    }
    return std::make_unique<CaresQuery>(state);
  }

 private:
  struct Pending {
    std::shared_ptr<CaresQuery::State> state;
    DnsFamily family;
  };

  static void deliver(const std::shared_ptr<CaresQuery::State>& state,
                      base::Result<DnsAnswer> answer) {
    state->loop->post([state, answer = std::move(answer)]() mutable {
      if (!state->cancelled) state->callback(std::move(answer));
    });
  }

  void ask(const std::string& name, DnsFamily family,
           const std::shared_ptr<CaresQuery::State>& state) {
    ares_addrinfo_hints hints{};
    hints.ai_family = family == DnsFamily::kV4Preferred ? AF_UNSPEC : familyOf(family);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = ARES_AI_NOSORT;
    auto* pending = new Pending{state, family};
    ares_getaddrinfo(
        channel_, name.c_str(), nullptr, &hints,
        [](void* argument, int status, int, ares_addrinfo* result) {
          std::unique_ptr<Pending> mine(static_cast<Pending*>(argument));
          if (status != ARES_SUCCESS || result == nullptr) {
            if (status != ARES_EDESTRUCTION)
              deliver(mine->state, std::unexpected(dnsError(status)));
            return;
          }
          DnsAnswer answer;
          answer.ttl = std::chrono::hours(1);
          for (ares_addrinfo_node* node = result->nodes; node != nullptr; node = node->ai_next) {
            answer.addresses.push_back(Address::fromSockaddr(node->ai_addr, node->ai_addrlen));
            answer.ttl = std::min(answer.ttl, std::chrono::seconds(std::max(node->ai_ttl, 0)));
          }
          ares_freeaddrinfo(result);
          keepFamily(answer.addresses, mine->family);
          deliver(mine->state, std::move(answer));
        },
        pending);
    rearm();
  }

  void watch(ares_socket_t fd, bool wanted) {
    if (closing_) return;
    if (!wanted) {
      watches_.erase(fd);
    } else if (!watches_.contains(fd)) {
      watches_[fd] = event::FdWatch(loop_, fd, [this, fd](std::uint32_t ready) {
        process((ready & event::kReadable) ? fd : ARES_SOCKET_BAD,
                (ready & event::kWritable) ? fd : ARES_SOCKET_BAD);
      });
    }
  }

  void process(ares_socket_t readable, ares_socket_t writable) {
    ares_process_fd(channel_, readable, writable);
    rearm();
  }

  void rearm() {
    timeval at{};
    if (ares_timeout(channel_, nullptr, &at) == nullptr) {
      timer_.cancel();
    } else {
      timer_.arm(std::chrono::seconds(at.tv_sec) + std::chrono::microseconds(at.tv_usec));
    }
  }

  event::Loop& loop_;
  ares_channel channel_ = nullptr;
  event::Timer timer_;
  std::map<ares_socket_t, event::FdWatch> watches_;
  bool closing_ = false;
};

}  // namespace

std::unique_ptr<Resolver> makeResolver(event::Loop& loop, const Resolver::Options& options) {
  return std::make_unique<CaresResolver>(loop, options);
}

}  // namespace postern::net
