#include "http/negotiate.h"

#include "base/check.h"
#include "codec/h2_frame.h"
#include "http/h1_client.h"
#include "http/h1_server.h"
#include "http/h2_client.h"
#include "http/h2_server.h"

#include <algorithm>
#include <utility>

namespace postern::http {
namespace {

constexpr std::size_t kFirstReadBytes = 16 * 1024;
constexpr std::chrono::seconds kFirstBytesDrainSilence{1};  // of a connection that is to end
// So much of the preface cannot be HTTP/1: what is wrong behind it is told in HTTP/2.
constexpr std::string_view kPrefaceStart = codec::kH2Preface.substr(0, 12);

class NegotiatedServer final : public ServerConnection,
                               public net::TransportObserver,
                               public event::Deferred {
 public:
  NegotiatedServer(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                   const SharedLimits& limits, ServerObserver& observer)
      : loop_(loop),
        transport_(std::move(transport)),
        limits_(limits),
        owner_(observer),
        timer_(loop, [this] { onTimer(); }) {
    transport_->setObserver(this);
    if (limits_->idle_timeout.count() > 0) timer_.arm(limits_->idle_timeout);
  }

  // ---- ServerConnection ----
  net::Transport& transport() override { return *transport_; }
  void drain() override {
    // A first request may be on its way: its answer will say that the connection ends.
    if (!std::exchange(draining_, true)) timer_.arm(kFirstBytesDrainSilence);
  }
  void close() override { shut(); }

  // ---- net::TransportObserver ----
  void onConnected() override {
    const std::string& alpn = transport_->peer().alpn;
    if (!alpn.empty()) begin(alpn == "h2" ? Protocol::kHttp2 : Protocol::kHttp1, true);
  }
  void onReadable() override {
    for (;;) {
      const net::IoResult result = transport_->read(in_, kFirstReadBytes);
      const std::size_t have = std::min(in_.size(), kPrefaceStart.size());
      if (have > 0 && in_.contiguous(have) != kPrefaceStart.substr(0, have))
        return begin(Protocol::kHttp1, result.bytes == kFirstReadBytes);
      if (have == kPrefaceStart.size()) return begin(Protocol::kHttp2, true);
      if (result.status == net::IoStatus::kAgain) return awaitRest();
      if (result.status != net::IoStatus::kOk) return shut();
    }
  }
  void onWritable() override {}
  void onError(base::Error) override { shut(); }

 private:
  /// `more`: the transport may have more now, which has used up its edge of the poller.
  void begin(Protocol protocol, bool more) {
    net::Transport& transport = *transport_;
    ServerConnection* found =
        protocol == Protocol::kHttp2
            ? startH2Server(loop_, std::move(transport_), std::move(in_), *limits_, owner_)
            : startH1Server(loop_, std::move(transport_), std::move(in_), limits_, owner_);
    owner_.onProtocol(*this, *found);
    if (draining_) found->drain();
    if (more) transport.resumeRead();
    closed_ = true;
    end();
  }
  /// What has begun must not take its time: a first line of which only a part is there.
  void awaitRest() {
    if (in_.empty() || draining_ || std::exchange(begun_, true)) return;
    if (limits_->headers_timeout.count() > 0) timer_.arm(limits_->headers_timeout);
  }
  void onTimer() {
    if (!begun_) owner_.onEvent(*this, ServerObserver::Event::kIdleTimeout);
    shut();
  }
  void shut() {
    if (std::exchange(closed_, true)) return;
    transport_->setObserver(nullptr);
    owner_.onClosed(*this);
    end();
  }
  void end() {
    timer_.cancel();
    loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  event::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;  // until the protocol is known
  base::Buffer in_;
  const SharedLimits limits_;
  ServerObserver& owner_;
  event::Timer timer_;
  bool draining_ = false;
  bool begun_ = false;  // some of the first line is there
  bool closed_ = false;
};

class NegotiatedClient final : public ClientConnection,
                               public ClientObserver,
                               public net::TransportObserver,
                               public event::Deferred {
 public:
  NegotiatedClient(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                   const ClientLimits& limits, ClientObserver& observer)
      : loop_(loop), transport_(std::move(transport)), limits_(limits), owner_(observer) {
    transport_->setObserver(this);
  }

  // ---- ClientConnection ----
  bool canOpen() const override { return inner_ != nullptr && inner_->canOpen(); }
  Stream& open(StreamObserver& observer) override {
    POSTERN_CHECK(inner_ != nullptr);
    return inner_->open(observer);
  }
  net::Transport& transport() override {
    return inner_ != nullptr ? inner_->transport() : *transport_;
  }
  std::size_t activeStreams() const override {
    return inner_ == nullptr ? 0 : inner_->activeStreams();
  }
  bool multiplexes() const override { return inner_ != nullptr && inner_->multiplexes(); }
  std::optional<bool> takesExtendedConnect() const override {
    return inner_ == nullptr ? std::nullopt : inner_->takesExtendedConnect();
  }
  std::uint32_t streamsMax() const override { return inner_ == nullptr ? 1 : inner_->streamsMax(); }
  void drain() override { inner_ != nullptr ? inner_->drain() : close(); }
  void close() override {
    if (inner_ != nullptr) return inner_->close();
    shut({base::Errc::kCancelled, "closed"});
  }

  // ---- ClientObserver ----
  void onConnected(ClientConnection&) override {}
  void onAvailable(ClientConnection&) override { owner_.onAvailable(*this); }
  void onDraining(ClientConnection&) override { owner_.onDraining(*this); }
  void onClosed(ClientConnection&, base::Error error) override { gone(error); }
  void onH2Event(H2Event event) override { owner_.onH2Event(event); }

  // ---- net::TransportObserver ----
  void onConnected() override {
    const bool h2 = transport_->peer().alpn == "h2";
    inner_ = h2 ? startH2Client(loop_, std::move(transport_), limits_, *this, Connected::kYes)
                : startH1Client(loop_, std::move(transport_), limits_, *this, Connected::kYes);
    owner_.onConnected(*this);
  }
  void onReadable() override {}
  void onWritable() override {}
  void onError(base::Error error) override { shut(error); }

 private:
  void shut(base::Error error) {
    if (closed_) return;
    transport_->setObserver(nullptr);
    gone(error);
  }
  void gone(base::Error error) {
    if (std::exchange(closed_, true)) return;
    owner_.onClosed(*this, error);
    loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  event::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;  // until the protocol is known
  const ClientLimits limits_;
  ClientObserver& owner_;
  ClientConnection* inner_ = nullptr;
  bool closed_ = false;
};

}  // namespace

ServerConnection* startNegotiatedServer(event::Loop& loop,
                                        std::unique_ptr<net::Transport> transport,
                                        const SharedLimits& limits, ServerObserver& observer) {
  return new NegotiatedServer(loop, std::move(transport), limits, observer);
}

ClientConnection* startNegotiatedClient(event::Loop& loop,
                                        std::unique_ptr<net::Transport> transport,
                                        const ClientLimits& limits, ClientObserver& observer) {
  return new NegotiatedClient(loop, std::move(transport), limits, observer);
}

}  // namespace postern::http
