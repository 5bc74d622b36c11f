// Life of a connection and of its streams, and everything that is sent. What is received:
// h2_receive.cc.
#include "http/h2_session.h"

#include "base/check.h"
#include "base/random.h"
#include "codec/h2_writer.h"
#include "http/linger.h"

#include <algorithm>
#include <utility>

namespace postern::http {
namespace {

constexpr std::size_t kOutHighBytes = 128 * 1024;   // no more DATA is framed above
constexpr std::size_t kWholeBlockBytes = 8 * 1024;  // a block this full is sent without a copy
constexpr std::uint32_t kResetByUs = 0x80000000U;
constexpr std::uint32_t kDefaultTableBytes = 4096;
constexpr std::string_view kKeepalivePing = "alive?..";

codec::H2ReaderLimits readerLimits(const H2Options& options) {
  return {.block_bytes_max = options.header_bytes_max,
          .empty_frames_max = options.h2.empty_frames_max,
          .priority_frames_per_stream = options.h2.priority_frames_per_stream,
          .window_updates_per_data_frame = options.h2.window_updates_per_data_frame};
}

}  // namespace

H2Session::H2Session(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                     base::Buffer initial, Role role, const H2Options& options)
    : loop_(loop),
      transport_(std::move(transport)),
      in_(std::move(initial)),
      options_(options),
      reader_(role, readerLimits(options)),
      decoder_(options.header_bytes_max, options.header_count_max, options.h2.header_table_bytes),
      encoder_(options.h2.header_table_bytes),
      last_activity_(loop.now()),
      role_(role),
      deliver_(loop, [this] { deliverReady(); }),
      turn_end_(loop, [this] { endOfTurn(); }),
      reset_tokens_(options.h2.resets_burst_max),
      refilled_(loop.now()) {
  transport_->setObserver(this);
}

H2Session::~H2Session() = default;

/// Preface and SETTINGS go first; the transport may still be in its handshake.
void H2Session::begin() {
  using Id = codec::H2SettingId;
  const auto list_bytes = static_cast<std::uint32_t>(options_.header_bytes_max);
  state_ = State::kOpen;
  std::vector<std::pair<Id, std::uint32_t>> settings;
  if (options_.h2.header_table_bytes != kDefaultTableBytes)
    settings.emplace_back(Id::kHeaderTableSize, options_.h2.header_table_bytes);
  if (isServer()) {
    settings.emplace_back(Id::kMaxConcurrentStreams, options_.h2.concurrent_streams_max);
    if (options_.h2.extended_connect) settings.emplace_back(Id::kEnableConnectProtocol, 1);
  } else {
    out_.append(codec::kH2Preface);
    settings.emplace_back(Id::kEnablePush, 0);
  }
  settings.emplace_back(Id::kInitialWindowSize, options_.h2.stream_window_bytes);
  settings.emplace_back(Id::kMaxHeaderListSize, list_bytes);
  codec::writeH2Settings(out_, settings);
  startKeepalive();
  if (options_.h2.connection_window_bytes > receive_window_) {
    const auto more =
        static_cast<std::uint32_t>(options_.h2.connection_window_bytes - receive_window_);
    codec::writeH2WindowUpdate(out_, 0, more);
    receive_window_ += more;
  }
  schedule();
  if (!in_.empty()) transport_->resumeRead();
}

// ---- streams ----

std::unique_ptr<H2Stream> H2Session::makeStream(std::uint32_t id) {
  return std::make_unique<H2Stream>(*this, id, peer_initial_window_,
                                    options_.h2.stream_window_bytes * window_growth_);
}

H2Stream& H2Session::addStream(std::unique_ptr<H2Stream> stream) {
  reader_.streamOpened();
  ++new_streams_;
  return streams_.add(std::move(stream));
}

/// Out of the table; the object stays until the end of the turn.
void H2Session::closeStream(H2Stream& stream) {
  if (stream.closed) return;
  last_activity_ = loop_.now();
  stream.closed = stream.over = true;
  stream.observer = nullptr;
  static_cast<base::ListHook<H2ReadyTag>&>(stream).unlink();
  static_cast<base::ListHook<H2SendTag>&>(stream).unlink();
  static_cast<base::ListHook<H2WritableTag>&>(stream).unlink();
  discard(stream.in.size());
  stream.in.clear();
  countUnsent(-static_cast<std::ptrdiff_t>(stream.out.size()));
  stream.out.clear();
  onStreamGone(stream);
  if (stream.id != 0) {
    std::unique_ptr<H2Stream> taken = streams_.take(stream.id);
    POSTERN_CHECK(taken.get() == &stream);
    graveyard_.push_back(std::move(taken));
  } else {
    const auto it = std::find_if(unsent_.begin(), unsent_.end(),
                                 [&](const auto& each) { return each.get() == &stream; });
    POSTERN_CHECK(it != unsent_.end());
    graveyard_.push_back(std::move(*it));
    unsent_.erase(it);
  }
  settleLater();
}

void H2Session::remember(std::uint32_t id, bool reset_by_us) {
  std::uint32_t& place = closed_[closed_count_++ % closed_.size()];
  forgotten_ = std::max(forgotten_, place & ~kResetByUs);
  place = id | (reset_by_us ? kResetByUs : 0U);
}

H2Past H2Session::past(std::uint32_t id) const {
  if (isIdle(id)) return H2Past::kIdle;
  const std::size_t known = std::min(closed_count_, closed_.size());
  for (std::size_t i = 0; i < known; ++i) {
    const std::uint32_t number = closed_[i] & ~kResetByUs;
    if (number == id) return (closed_[i] & kResetByUs) != 0 ? H2Past::kResetByUs : H2Past::kClosed;
  }
  return id <= forgotten_ ? H2Past::kForgotten : H2Past::kSkipped;
}

void H2Session::resetByUs(H2Stream& stream, codec::H2Error code) {
  if (stream.closed) return;
  if (stream.id != 0 && !isClosed()) {
    writeReset(stream.id, code);
    remember(stream.id, !stream.remote_ended);
  }
  closeStream(stream);
}

void H2Session::streamError(std::uint32_t id, codec::H2Error code, ResetReason reason) {
  if (!chargeReset()) return;
  schedule();
  H2Stream* stream = find(id);
  if (stream == nullptr) return writeReset(id, code);
  StreamObserver* told = std::exchange(stream->observer, nullptr);
  stream->over = true;
  resetByUs(*stream, code);
  if (told != nullptr) told->onReset(reason);
}

void H2Session::invalidMessage(std::uint32_t id, const char* text, ResetReason reason) {
  tell(H2Event::kMessagingError);
  if (!options_.h2.invalid_message_ends_stream)
    return connectionError(codec::H2Error::kProtocol, text, reason);
  streamError(id, codec::H2Error::kProtocol, reason);
}

void H2Session::writeReset(std::uint32_t id, codec::H2Error code) {
  codec::writeH2Reset(out_, id, code);
  unsent_frames_.add(H2UnsentFrames::Kind::kControl);
  tell(H2Event::kTxReset);
  schedule();
}

void H2Session::writePing(std::string_view payload, codec::H2PingKind kind) {
  codec::writeH2Ping(out_, payload, kind);
  unsent_frames_.add(H2UnsentFrames::Kind::kControl);
  schedule();
}

/// Both ends are done with a stream, or the server need not hear the rest of the request.
void H2Session::localEnded(H2Stream& stream) {
  stream.local_end_sent = true;
  if (stream.remote_ended) {
    if (!isServer() && !stream.over) return;  // the answer is not yet read
    remember(stream.id, false);
    creditReset();
    closeStream(stream);
  } else if (isServer()) {
    resetByUs(stream, codec::H2Error::kNone);  // RFC 9113 8.1
  }
}

void H2Session::producerEnded(H2Stream& stream) {
  if (!isServer()) return;
  stream.over = true;
  stream.observer = nullptr;
  stream.sent_at = loop_.now();
}

/// Client: the observer is about to see the end.
void H2Session::tellEnded(H2Stream& stream) {
  stream.over = true;
  stream.observer = nullptr;
  if (!stream.local_end_sent) return resetByUs(stream, codec::H2Error::kCancel);
  remember(stream.id, false);
  closeStream(stream);
}

// ---- ends ----

void H2Session::sendGoAway(std::uint32_t last_stream, codec::H2Error code, std::string_view debug) {
  codec::writeH2GoAway(out_, last_stream, code, debug);
  tell(H2Event::kGoAwaySent);
  schedule();
}

void H2Session::connectionError(codec::H2Error code, const char* text, ResetReason reason) {
  if (isClosed()) return;
  codec::writeH2GoAway(out_, last_peer_stream_, code, text);
  tell(H2Event::kGoAwaySent);
  if (code != codec::H2Error::kNone) tell(H2Event::kProtocolError);
  endGently({base::Errc::kProtocol, text}, reason);
}

/// Who leaves much of what was sent to him unread is not waited for: it would hold our memory.
void H2Session::endGently(base::Error error, std::optional<ResetReason> reason) {
  transport_->write(out_);
  if (out_.size() > kOutHighBytes || !startLinger()) {
    transport_->shutdownWrite();
    return shut(error, reason);
  }
  state_ = State::kLinger;
  keepalive_.reset();
  in_.clear();
  resetStreams(reason);
  if (lingers()) linger();
}

void H2Session::linger() {
  if (!out_.empty()) transport_->write(out_);
  if (out_.empty() && !std::exchange(write_shut_, true)) transport_->shutdownWrite();
  if (!discardInput(*transport_, discarded_)) lost({base::Errc::kClosed, "closed by the peer"});
}

void H2Session::shut(base::Error error, std::optional<ResetReason> reason) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  keepalive_.reset();
  transport_->setObserver(nullptr);
  resetStreams(reason);
  onGone(error);
  loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
}

void H2Session::resetStreams(std::optional<ResetReason> reason) {
  while (H2Stream* stream = findStream([](const H2Stream&) { return true; })) {
    StreamObserver* told = std::exchange(stream->observer, nullptr);
    const ResetReason why = reason ? *reason : lostReason(*stream);
    closeStream(*stream);
    if (told != nullptr) told->onReset(why);
  }
}

bool H2Session::chargeReset() {
  if (reset_tokens_ == 0) {
    connectionError(codec::H2Error::kEnhanceYourCalm, "too many resets");
    return false;
  }
  --reset_tokens_;
  return true;
}

void H2Session::creditReset() {
  if (reset_tokens_ < options_.h2.resets_burst_max) ++reset_tokens_;
}

// ---- floods and silence ----

/// False: the connection was closed.
bool H2Session::checkFloods() {
  const bool control = unsent_frames_.control() > options_.h2.outbound_control_frames_max;
  if (!control && unsent_frames_.all() <= options_.h2.outbound_frames_max) return true;
  tell(control ? H2Event::kOutboundControlFlood : H2Event::kOutboundFlood);
  connectionError(codec::H2Error::kEnhanceYourCalm, "too many frames wait for the peer");
  return false;
}

void H2Session::startKeepalive() {
  const H2Keepalive& wanted = options_.h2.keepalive;
  if (wanted.interval.count() == 0 && wanted.idle_interval.count() == 0) return;
  keepalive_ = std::make_unique<Keepalive>(loop_, [this] { onKeepalive(); });
  keepalive_->heard = loop_.now();
  waitForKeepalive();
}

void H2Session::waitForKeepalive() {
  const H2Keepalive& wanted = options_.h2.keepalive;
  keepalive_->waiting = false;
  if (wanted.interval.count() == 0) return keepalive_->timer.cancel();
  thread_local base::Random random;
  const auto most = static_cast<std::uint64_t>(static_cast<double>(wanted.interval.count()) *
                                               wanted.jitter_percent / 100);
  keepalive_->timer.arm(wanted.interval +
                        std::chrono::milliseconds(most == 0 ? 0 : random.below(most)));
}

void H2Session::askPeer() {
  keepalive_->waiting = true;
  keepalive_->asked = loop_.now();
  keepalive_->timer.arm(options_.h2.keepalive.timeout);
  writePing(kKeepalivePing, codec::H2PingKind::kAsk);
}

void H2Session::onKeepalive() {
  if (!keepalive_->waiting) return askPeer();
  if (keepalive_->heard > keepalive_->asked) return waitForKeepalive();
  tell(H2Event::kKeepaliveTimeout);
  lost({base::Errc::kTimeout, "keepalive timeout"});
}

void H2Session::pingIfSilent() {
  const auto longest = options_.h2.keepalive.idle_interval;
  if (keepalive_ == nullptr || longest.count() == 0 || keepalive_->waiting) return;
  if (loop_.now() - keepalive_->heard >= longest) askPeer();
}

// ---- sending ----

void H2Session::writeHeaders(H2Stream& stream, const HeaderMap& headers, End end) {
  if (stream.id == 0) number(stream);
  if (stream.closed) return;
  block_.clear();
  encodeH2Headers(encoder_, headers, block_);
  codec::writeH2Headers(out_, stream.id, block_,
                        end == End::kYes ? unsigned{codec::kH2EndStream} : 0U);
  unsent_frames_.add(H2UnsentFrames::Kind::kData);
  schedule();
  if (end == End::kNo) return;
  producerEnded(stream);
  localEnded(stream);
}

void H2Session::offer(H2Stream& stream) {
  auto& hook = static_cast<base::ListHook<H2SendTag>&>(stream);
  if (hook.linked() || !stream.canSendData()) return;
  sending_.pushBack(stream);
  schedule();
}

void H2Session::wanted(H2Stream& stream) {
  auto& hook = static_cast<base::ListHook<H2ReadyTag>&>(stream);
  if (hook.linked()) return;
  ready_.pushBack(stream);
  deliver_.schedule();
}

/// Frames what the windows allow, one frame per stream and round. When the connection's window is
/// used up, bytes wait for it, in the same order; an end or trailers without bytes before them do
/// not.
void H2Session::fillOut() {
  base::IntrusiveList<H2Stream, H2SendTag> waiting;
  while (out_.size() < kOutHighBytes) {
    H2Stream* stream = sending_.popFront();
    if (stream == nullptr) break;
    if (!writeData(*stream)) waiting.pushBack(*stream);
  }
  while (H2Stream* stream = waiting.back()) {
    static_cast<base::ListHook<H2SendTag>&>(*stream).unlink();
    sending_.pushFront(*stream);
  }
}

/// One DATA frame and the end, if it is there. False: the connection's window is used up.
bool H2Session::writeData(H2Stream& stream) {
  if (stream.local_end_sent) return true;
  std::size_t count = stream.out.size();
  if (count > 0) {
    if (send_window_ <= 0) return false;
    const std::int64_t window = std::min(send_window_, stream.send_window);
    if (window <= 0) return true;  // WINDOW_UPDATE offers it again
    count = std::min({count, static_cast<std::size_t>(window),
                      static_cast<std::size_t>(codec::kH2FrameBytesMax)});
    const std::size_t block = stream.out.front().size();
    if (block >= kWholeBlockBytes) count = std::min(count, block);
  }
  const bool last = count == stream.out.size() && stream.local_ended;
  const bool end_here = last && stream.trailers_out == nullptr;
  if (count > 0 || end_here) {
    codec::writeH2Header(out_, count, codec::H2Type::kData,
                         end_here ? unsigned{codec::kH2EndStream} : 0U, stream.id);
    out_.append(stream.out, count);
    countUnsent(-static_cast<std::ptrdiff_t>(count));
    send_window_ -= static_cast<std::int64_t>(count);
    stream.send_window -= static_cast<std::int64_t>(count);
    stream.sent_at = loop_.now();
    reader_.dataSent();
    unsent_frames_.add(H2UnsentFrames::Kind::kData);
  }
  if (last) {
    if (stream.trailers_out != nullptr) {
      block_.clear();
      encodeH2Headers(encoder_, *stream.trailers_out, block_);
      codec::writeH2Headers(out_, stream.id, block_, codec::kH2EndStream);
      unsent_frames_.add(H2UnsentFrames::Kind::kData);
    }
    localEnded(stream);
    return true;
  }
  auto& waiting = static_cast<base::ListHook<H2WritableTag>&>(stream);
  if (stream.full && !stream.local_ended && !waiting.linked() &&
      stream.out.size() <= options_.h2.stream_unsent_bytes_max / 4)
    writable_.pushBack(stream);
  if (!stream.out.empty() && stream.canSendData()) sending_.pushBack(stream);
  return true;
}

void H2Session::flush() {
  if (eof_) return out_.clear();
  if (write_blocked_) return;
  for (;;) {
    fillOut();
    if (out_.empty()) return;
    const net::IoResult result = transport_->write(out_);
    sent_bytes_ += result.bytes;
    unsent_frames_.moved(sent_bytes_, out_.size());
    if (result.status == net::IoStatus::kError) {
      // An answer may have arrived before the peer closed: reading tells.
      out_.clear();
      write_blocked_ = true;
      return transport_->resumeRead();
    }
    if (!out_.empty()) {
      write_blocked_ = true;
      return;
    }
  }
}

void H2Session::onConnected() { onWritable(); }

void H2Session::onWritable() {
  if (lingers()) return linger();
  if (std::exchange(write_blocked_, false)) last_activity_ = loop_.now();
  schedule();
}

/// Before anything is flushed: a head and the body that came with it leave in one write.
void H2Session::deliverReady() {
  while (!isClosed()) {
    H2Stream* const stream = ready_.popFront();
    if (stream == nullptr) return deliver_.cancel();  // this loop has done what was scheduled
    deliver(*stream);
  }
}

void H2Session::endOfTurn() {
  graveyard_.clear();
  if (isClosed()) return;
  flush();
  if (paused_ && out_.size() < kOutHighBytes) {
    paused_ = false;
    transport_->resumeRead();
  }
  while (H2Stream* stream = writable_.popFront()) {
    stream->full = false;
    if (stream->observer != nullptr) stream->observer->onWritable();
    if (isClosed()) return;
  }
  if (std::exchange(settle_, false)) onSettled();
}

}  // namespace postern::http
