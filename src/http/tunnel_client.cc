#include "http/tunnel_client.h"

#include "base/check.h"

#include <utility>

namespace postern::http {
namespace {

constexpr std::size_t kTunnelOutHighBytes = 128 * 1024;
constexpr std::size_t kOutLowBytes = 32 * 1024;
constexpr base::Duration kLastBytesAfter = std::chrono::minutes(1);

class TunnelClient final : public ClientConnection,
                           public Stream,
                           public net::TransportObserver,
                           public event::Deferred {
 public:
  TunnelClient(event::Loop& loop, std::unique_ptr<net::Transport> transport,
               ClientObserver& observer)
      : loop_(loop),
        transport_(std::move(transport)),
        owner_(observer),
        flush_(loop, [this] { flush(); }),
        last_(loop, [this] { shut(ResetReason::kLocal, {base::Errc::kTimeout, "tunnel ended"}); }),
        resume_(loop, [this] { advance(); }) {
    transport_->setObserver(this);
  }

  // ---- ClientConnection ----
  bool canOpen() const override { return connected_ && !opened_ && !draining_; }
  Stream& open(StreamObserver& observer) override {
    POSTERN_CHECK(canOpen());
    opened_ = true;
    stream_ = &observer;
    return *this;
  }
  net::Transport& transport() override { return *transport_; }
  std::size_t activeStreams() const override { return stream_ != nullptr ? 1 : 0; }
  bool multiplexes() const override { return false; }
  void drain() override {
    draining_ = true;
    if (stream_ == nullptr) close();
  }
  void close() override { shut(ResetReason::kLocal, {base::Errc::kCancelled, "closed"}); }

  // ---- Stream ----
  std::size_t bytesHeld() const override { return out_.size(); }
  void setObserver(StreamObserver* observer) override { stream_ = observer; }
  Flow sendHeaders(const HeaderMap&, End end) override {
    answers_ = true;
    ended_ = end == End::kYes;
    resume_.schedule();
    return flow();
  }
  Flow sendData(base::Buffer& data, End end) override {
    out_.append(data);
    ended_ = ended_ || end == End::kYes;
    return flow();
  }
  Flow sendTrailers(const HeaderMap&) override {
    ended_ = true;
    return flow();
  }
  void read() override {
    wants_ = true;
    resume_.schedule();
  }
  void reset(ResetReason) override {
    stream_ = nullptr;
    shut(ResetReason::kLocal, {base::Errc::kCancelled, "reset"});
  }
  std::unique_ptr<net::Transport> takeTransport(base::Buffer&) override { return nullptr; }
  const net::Transport& transport() const override { return *transport_; }
  int httpVersion() const override { return 1; }

  // ---- net::TransportObserver ----
  void onConnected() override {
    connected_ = true;
    owner_.onConnected(*this);
  }
  void onReadable() override {
    readable_ = true;
    advance();
  }
  void onWritable() override { flush(); }
  void onError(base::Error error) override {
    shut(connected_ ? ResetReason::kConnectionLost : ResetReason::kConnectFailure, error);
  }

 private:
  Flow flow() {
    flush_.schedule();
    full_ = full_ || out_.size() > kTunnelOutHighBytes;
    return full_ ? Flow::kFull : Flow::kOpen;
  }

  void advance() {
    if (closed_) return;
    if (stream_ == nullptr) return idleRead();
    if (std::exchange(answers_, false)) {
      // Connected is all the answer there is.
      stream_->onHeaders({{":status", "200"}}, End::kNo);
      return;
    }
    if (!wants_ || !readable_) return;
    base::Buffer piece;
    const net::IoResult result = transport_->read(piece, kReadBytes);
    readable_ = result.status == net::IoStatus::kOk && result.bytes == kReadBytes;
    if (result.status == net::IoStatus::kError)
      return shut(ResetReason::kConnectionLost, transport_->error());
    if (result.status == net::IoStatus::kAgain) return;
    wants_ = false;
    if (result.status != net::IoStatus::kEof) return stream_->onData(piece, End::kNo);
    StreamObserver* told = std::exchange(stream_, nullptr);
    over_ = true;
    last_.arm(kLastBytesAfter);
    flush_.schedule();
    told->onData(piece, End::kYes);
  }

  /// Without a stream nothing is read; only an end matters.
  void idleRead() {
    if (opened_) return;
    base::Buffer piece;
    const net::IoResult result = transport_->read(piece, 1);
    if (result.status != net::IoStatus::kAgain)
      shut(ResetReason::kConnectionLost, {base::Errc::kClosed, "closed by the peer"});
  }

  void flush() {
    if (closed_) return;
    const net::IoResult result = transport_->write(out_);
    if (result.status == net::IoStatus::kError)
      return shut(ResetReason::kConnectionLost, transport_->error());
    if (out_.empty() && over_ && !transport_->unsent())
      return shut(ResetReason::kLocal, {base::Errc::kClosed, "tunnel ended"});
    if (out_.empty() && ended_ && !std::exchange(shut_write_, true)) transport_->shutdownWrite();
    if (full_ && out_.size() < kOutLowBytes) {
      full_ = false;
      if (stream_ != nullptr) stream_->onWritable();
    }
  }

  void shut(ResetReason reason, base::Error error) {
    if (std::exchange(closed_, true)) return;
    resume_.cancel();
    transport_->setObserver(nullptr);
    if (StreamObserver* told = std::exchange(stream_, nullptr); told != nullptr)
      told->onReset(reason);
    owner_.onClosed(*this, error);
    loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  event::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  ClientObserver& owner_;
  StreamObserver* stream_ = nullptr;
  base::Buffer out_;
  event::TurnEnd flush_;
  event::Timer last_;  // for a peer that has ended and takes nothing
  event::Soon resume_;
  bool connected_ = false;
  bool opened_ = false;
  bool draining_ = false;
  bool answers_ = false;
  bool wants_ = false;
  bool readable_ = false;
  bool ended_ = false;
  bool shut_write_ = false;
  bool over_ = false;  // the peer has ended its direction and the stream was told
  bool full_ = false;
  bool closed_ = false;
};

}  // namespace

ClientConnection* startTunnelClient(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                    ClientObserver& observer) {
  return new TunnelClient(loop, std::move(transport), observer);
}

}  // namespace postern::http
