// Port-forward: per connection of the client a pair of SPDY streams with the same "requestid", one
// for data and one for an error text, joined with a socket inside the pod.
#include "base/log.h"
#include "base/strings.h"
#include "net/socket.h"
#include "streaming/session.h"
#include "streaming/spdy_mux.h"

#include <list>
#include <string>
#include <utility>

namespace postern::streaming {
namespace {

constexpr std::size_t kUnsentBytesMax = 1024 * 1024;  // towards one socket; above it all wait
constexpr std::size_t kReadBytes = 32 * 1024;

base::LogComponent& forwardLog() {
  static base::LogComponent component("streaming");
  return component;
}

class PortForward;

/// One forwarded connection.
class Pair final : public net::TransportObserver {
 public:
  Pair(PortForward& owner, std::string id, std::uint16_t port)
      : owner_(owner), request_id(std::move(id)), port_(port) {}

  void dialed(std::unique_ptr<net::Transport> socket);
  void fromClient(std::string_view bytes);
  void clientEnded();
  void pump();
  void closeSocket() { socket_.reset(); }

  void onReadable() override { pump(); }
  void onWritable() override;
  void onError(base::Error error) override;

 private:
  PortForward& owner_;

 public:
  const std::string request_id;
  SpdyStream* data = nullptr;
  SpdyStream* error = nullptr;
  bool holds = false;    // its socket does not keep up
  bool dialing = false;  // the backend was asked
  bool stalled = false;  // the client does not keep up: read the socket later
  bool over = false;     // both directions ended or failed
  std::uint16_t port() const { return port_; }

 private:
  void flush();
  void settle();

  const std::uint16_t port_;
  std::unique_ptr<net::Transport> socket_;
  base::Buffer unsent_;
  bool client_ended_ = false;
  bool pod_ended_ = false;
  bool shut_ = false;
};

class PortForward final : public Session, private SpdyMuxObserver {
 public:
  PortForward(event::Loop& loop, SessionOwner& owner, std::unique_ptr<net::Transport> transport,
              Carrier::Framing framing, ExecBackend& backend, PodRef pod)
      : Session(loop, owner, std::move(transport), framing),
        backend_(backend),
        pod_(std::move(pod)),
        mux_(carrier_, *this) {}

  Carrier& carrier() { return carrier_; }
  SpdyMux& mux() { return mux_; }
  const PodRef& pod() const { return pod_; }

  /// Holds the client while any socket is behind.
  void held(Pair& pair, bool hold) {
    if (pair.holds == hold) return;
    pair.holds = hold;
    holding_ += hold ? 1 : -1;
    holding_ > 0 ? carrier_.pause() : carrier_.resume();
  }
  /// Tells the client why, and ends the pair.
  void fail(Pair& pair, const std::string& why) {
    const std::string text = "error forwarding port " + std::to_string(pair.port()) + " to pod " +
                             pod_.ns + "/" + pod_.name + ": " + why;
    forwardLog().debug("{}", text);
    if (pair.error != nullptr) mux_.send(*pair.error, text);
    finish(pair);
  }
  /// Ends both streams; the pair goes when the client has ended its side too.
  void finish(Pair& pair) {
    held(pair, false);
    for (SpdyStream* stream : {pair.data, pair.error}) {
      if (stream != nullptr) mux_.end(*stream);
    }
    pair.over = true;
    sweepLater();
  }

 private:
  // ---- from the connection ----
  void onBytes(std::string_view bytes) override { mux_.feed(bytes); }
  void onDrained() override {
    for (Pair& pair : pairs_) {
      if (std::exchange(pair.stalled, false)) pair.pump();
    }
  }
  void onClosed() override { end(); }
  void onGoAway() override { end(); }
  void end() {
    mux_.stop();
    over();
  }
  void onTimeout() override { sweep(); }

  // ---- from the client's streams ----
  bool onStream(SpdyStream& stream) override {
    std::string_view type = stream.header("streamtype");
    auto port = base::parseInteger<std::uint16_t>(stream.header("port"));
    if ((type != "error" && type != "data") || !port || *port == 0) return false;
    std::string id(stream.header("requestid"));
    // Clients before 1.4 send none: the error stream comes right before the data stream.
    if (id.empty()) id = "stream " + std::to_string(type == "error" ? stream.id : stream.id - 2);
    Pair& pair = pairOf(id, *port);
    SpdyStream*& slot = type == "error" ? pair.error : pair.data;
    if (slot != nullptr || pair.port() != *port) return false;
    slot = &stream;
    if (pair.data != nullptr && pair.error != nullptr && !std::exchange(pair.dialing, true)) {
      dial(pair);
    }
    return true;
  }
  void onData(SpdyStream& stream, std::string_view bytes) override {
    if (Pair* pair = find(stream); pair != nullptr && pair->data == &stream) {
      pair->fromClient(bytes);
    }
  }
  void onEnd(SpdyStream& stream) override {
    Pair* pair = find(stream);
    if (pair == nullptr) return;
    if (pair->data == &stream) pair->clientEnded();
    if (pair->over) sweepLater();
  }
  void onReset(SpdyStream& stream) override {
    // The client gave the connection up; its error stream alone says nothing.
    Pair* pair = find(stream);
    if (pair != nullptr && pair->data == &stream) finish(*pair);
    if (pair != nullptr && pair->over) sweepLater();
  }

  void dial(Pair& pair) {
    auto alive = std::weak_ptr<PortForward*>(self_);
    backend_.dial(pod_, pair.port(),
                  [alive, id = pair.request_id](std::expected<base::Fd, std::string> socket) {
                    if (auto self = alive.lock()) (*self)->dialed(id, std::move(socket));
                  });
  }
  void dialed(const std::string& id, std::expected<base::Fd, std::string> socket) {
    for (Pair& pair : pairs_) {
      if (pair.request_id != id || pair.over) continue;
      if (!socket) return fail(pair, socket.error());
      return pair.dialed(net::makeSocketTransport(loop_, std::move(*socket)));
    }
  }

  Pair& pairOf(const std::string& id, std::uint16_t port) {
    for (Pair& pair : pairs_) {
      if (pair.request_id == id && !pair.over) return pair;
    }
    return pairs_.emplace_back(*this, id, port);
  }
  Pair* find(const SpdyStream& stream) {
    for (Pair& pair : pairs_) {
      if (pair.data == &stream || pair.error == &stream) return &pair;
    }
    return nullptr;
  }
  /// Pairs are destroyed outside their own callbacks.
  void sweepLater() { timer_.arm({}); }
  void sweep() {
    for (auto pair = pairs_.begin(); pair != pairs_.end();) {
      bool done = pair->over;
      if (pair->over) pair->closeSocket();
      for (SpdyStream* stream : {pair->data, pair->error}) {
        if (stream != nullptr && !stream->gone && !stream->remote_ended) done = false;
      }
      if (!done) {
        ++pair;
        continue;
      }
      for (SpdyStream* stream : {pair->data, pair->error}) {
        if (stream != nullptr) mux_.release(*stream);
      }
      pair = pairs_.erase(pair);
    }
  }

  ExecBackend& backend_;
  const PodRef pod_;
  SpdyMux mux_;
  std::list<Pair> pairs_;
  int holding_ = 0;
  // The backend's callback may come after our end.
  std::shared_ptr<PortForward*> self_ = std::make_shared<PortForward*>(this);
};

void Pair::dialed(std::unique_ptr<net::Transport> socket) {
  socket_ = std::move(socket);
  socket_->setObserver(this);
  socket_->resumeRead();
  flush();
}

void Pair::fromClient(std::string_view bytes) {
  if (over || shut_) return;
  unsent_.append(bytes);
  flush();
}

void Pair::clientEnded() {
  client_ended_ = true;
  if (over) return;
  flush();
}

void Pair::flush() {
  if (over) return;
  if (socket_ != nullptr && !unsent_.empty() &&
      socket_->write(unsent_).status == net::IoStatus::kError) {
    return owner_.finish(*this);  // the pod closed it: for the client the connection just ends
  }
  owner_.held(*this, unsent_.size() > (holds ? kUnsentBytesMax / 2 : kUnsentBytesMax));
  if (socket_ != nullptr && client_ended_ && unsent_.empty() && !std::exchange(shut_, true)) {
    socket_->shutdownWrite();
  }
  settle();
}

void Pair::pump() {
  while (!over && !pod_ended_ && socket_ != nullptr) {
    if (owner_.carrier().full()) {
      stalled = true;
      return;
    }
    base::Buffer in;
    auto result = socket_->read(in, kReadBytes);
    while (!in.empty()) {
      std::string_view piece = in.front();
      owner_.mux().send(*data, piece);
      in.drain(piece.size());
    }
    if (result.status == net::IoStatus::kError) return owner_.finish(*this);
    if (result.status == net::IoStatus::kEof) {
      pod_ended_ = true;
      owner_.mux().end(*data);
      return settle();
    }
    if (result.status == net::IoStatus::kAgain || result.bytes < kReadBytes) return;
  }
}

void Pair::onWritable() { flush(); }

void Pair::onError(base::Error reason) { owner_.fail(*this, reason.message()); }

void Pair::settle() {
  if (!over && pod_ended_ && (client_ended_ || unsent_.empty())) owner_.finish(*this);
}

}  // namespace

std::unique_ptr<Session> makePortForward(event::Loop& loop, SessionOwner& owner,
                                         std::unique_ptr<net::Transport> transport,
                                         Carrier::Framing framing, ExecBackend& backend,
                                         PodRef pod) {
  return std::make_unique<PortForward>(loop, owner, std::move(transport), framing, backend,
                                       std::move(pod));
}

}  // namespace postern::streaming
