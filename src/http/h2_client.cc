#include "http/h2_client.h"

#include "base/check.h"
#include "http/h2_session.h"

#include <algorithm>
#include <utility>

namespace postern::http {
namespace {

using codec::H2Error;

constexpr std::uint32_t kStreamNumberMax = 0x7fffffffU;

H2Options sessionOptions(const ClientLimits& limits) {
  return {.header_bytes_max = limits.header_bytes_max,
          .header_count_max = limits.header_count_max,
          .h2 = limits.h2};
}

class H2Client final : public H2Session, public ClientConnection {
 public:
  H2Client(event::Loop& loop, std::unique_ptr<net::Transport> transport, const ClientLimits& limits,
           ClientObserver& observer, Connected connected)
      : H2Session(loop, std::move(transport), {}, Role::kClient, sessionOptions(limits)),
        owner_(observer),
        streams_before_settings_(limits.streams_before_settings),
        connected_(connected == Connected::kYes) {
    begin();
  }

  // ---- ClientConnection ----
  bool canOpen() const override {
    return connected_ && !draining_ && !isClosed() &&
           next_number_ + 2 * unsent_.size() < kStreamNumberMax && activeStreams() < streamsMax();
  }
  std::uint32_t streamsMax() const override {
    const std::uint32_t peers =
        reader_.begun() ? reader_.settings().concurrent_streams_max : streams_before_settings_;
    return std::min(options_.h2.concurrent_streams_max, peers);
  }
  Stream& open(StreamObserver& observer) override {
    POSTERN_CHECK(canOpen());
    unsent_.push_back(makeStream(0));
    unsent_.back()->observer = &observer;
    ++opened_;
    return *unsent_.back();
  }
  net::Transport& transport() override { return *transport_; }
  std::size_t activeStreams() const override { return streams_.size() + unsent_.size(); }
  bool multiplexes() const override { return true; }
  std::optional<bool> takesExtendedConnect() const override {
    if (!reader_.begun()) return std::nullopt;
    return reader_.settings().connect_protocol;
  }
  void drain() override {
    draining_ = draining_told_ = true;
    if (activeStreams() == 0) return close();
  }
  void close() override {
    if (isClosed()) return;
    if (connected_) {
      sendGoAway(0, H2Error::kNone);
      transport_->write(out_);
    }
    shut({base::Errc::kCancelled, "closed"}, ResetReason::kLocal);
  }

  // ---- net::TransportObserver ----
  void onConnected() override {
    H2Session::onConnected();
    connected_ = true;
    owner_.onConnected(*this);
  }

 private:
  void onNewHeaders(std::uint32_t id, H2HeaderReader&, bool) override {
    if (past(id) == H2Past::kIdle || past(id) == H2Past::kSkipped)
      connectionError(H2Error::kProtocol, "HEADERS of an idle stream");
  }
  void onResponse(H2Stream& stream, H2HeaderReader& fields) override;
  void onGoAway(std::uint32_t last_stream, H2Error code) override;
  void onSettings() override { settleLater(); }
  void onSettled() override;
  void onEnd(base::Error error) override;
  bool isIdle(std::uint32_t id) const override { return id % 2 == 0 || id >= next_number_; }
  void number(H2Stream& stream) override;
  void onGone(base::Error error) override { owner_.onClosed(*this, error); }
  void tell(H2Event event) override { owner_.onH2Event(event); }
  ResetReason lostReason(const H2Stream& stream) const override {
    if (!connected_) return ResetReason::kConnectFailure;
    if (stream.id == 0) return ResetReason::kNotSent;
    return opened_ > 1 && !stream.head_seen ? ResetReason::kLostBeforeReply
                                            : ResetReason::kConnectionLost;
  }
  /// Ends streams that will get no (further) answer.
  template <class Which>
  void resetWhere(Which which, ResetReason reason);

  ClientObserver& owner_;
  std::uint32_t next_number_ = 1;
  std::uint64_t opened_ = 0;
  const std::uint32_t streams_before_settings_;
  bool connected_;
  bool draining_ = false;
  bool draining_told_ = false;
};

void H2Client::number(H2Stream& stream) {
  auto it = std::find_if(unsent_.begin(), unsent_.end(),
                         [&](const auto& each) { return each.get() == &stream; });
  POSTERN_CHECK(it != unsent_.end());
  pingIfSilent();
  stream.id = next_number_;
  next_number_ += 2;
  std::unique_ptr<H2Stream> owned = std::move(*it);
  unsent_.erase(it);
  addStream(std::move(owned));
}

void H2Client::onResponse(H2Stream& stream, H2HeaderReader& fields) {
  HeaderMap headers = fields.take();
  const int status = headers.status();
  if (status < 200) {
    if (reader_.endStream()) return invalidMessage(stream.id, "1xx that ends the stream");
    if (++stream.informational > kInformationalMax)
      return invalidMessage(stream.id, "too many informational answers");
    if (stream.observer != nullptr) stream.observer->onInformational(std::move(headers));
    return;
  }
  stream.head_seen = true;
  const bool bodiless = stream.head_request || status == 304 || status == 204;
  stream.body_left = bodiless ? 0 : fields.contentLength();
  const bool ended = reader_.endStream();
  if (ended && stream.body_left.value_or(0) != 0)
    return invalidMessage(stream.id, "body of another length");
  StreamObserver* told = stream.observer;
  if (ended) {
    stream.remote_ended = true;
    tellEnded(stream);
  }
  if (told != nullptr) told->onHeaders(std::move(headers), ended ? End::kYes : End::kNo);
}

template <class Which>
void H2Client::resetWhere(Which which, ResetReason reason) {
  // An observer may change the table: begin again after each.
  while (!isClosed()) {
    H2Stream* stream = findStream(which);
    if (stream == nullptr) return;
    StreamObserver* told = std::exchange(stream->observer, nullptr);
    closeStream(*stream);
    if (told != nullptr) told->onReset(reason);
  }
}

void H2Client::onGoAway(std::uint32_t last_stream, H2Error) {
  draining_ = true;
  // Not processed there (RFC 9113 6.8): safe to try again elsewhere.
  resetWhere([last_stream](const H2Stream& s) { return s.id == 0 || s.id > last_stream; },
             ResetReason::kRefused);
  if (!isClosed()) settleLater();
}

void H2Client::onEnd(base::Error error) {
  draining_ = true;
  const bool before = opened_ > 1;
  resetWhere([](const H2Stream& s) { return s.id == 0; }, ResetReason::kNotSent);
  resetWhere([](const H2Stream& s) { return !s.remote_ended && !s.head_seen; },
             before ? ResetReason::kLostBeforeReply : ResetReason::kConnectionLost);
  resetWhere([](const H2Stream& s) { return !s.remote_ended; }, ResetReason::kConnectionLost);
  if (isClosed()) return;
  if (activeStreams() == 0) return lost(error);
  settleLater();  // answers that came whole are still read
}

void H2Client::onSettled() {
  if (draining_ && !std::exchange(draining_told_, true)) {
    owner_.onDraining(*this);
    if (isClosed()) return;
  }
  if (draining_ && activeStreams() == 0)
    return eof_ ? lost({base::Errc::kClosed, "closed by the peer"}) : close();
  if (canOpen()) owner_.onAvailable(*this);
}

}  // namespace

ClientConnection* startH2Client(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                                const ClientLimits& limits, ClientObserver& observer,
                                Connected connected) {
  return new H2Client(loop, std::move(transport), limits, observer, connected);
}

}  // namespace postern::http
