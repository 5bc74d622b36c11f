// The receiving half of H2Session: events of the frame reader to streams and observers.
#include "base/check.h"
#include "codec/h2_writer.h"
#include "http/h2_session.h"

#include <algorithm>
#include <utility>

namespace postern::http {
namespace {

using codec::H2Error;
using Event = codec::H2FrameReader::Event;

constexpr std::size_t kReadChunkBytes = 64 * 1024;
constexpr int kReadsPerTurn = 8;                  // then other connections have their turn
constexpr std::uint32_t kNewStreamsPerTurn = 32;  // the same
constexpr std::size_t kPauseBytes = 512 * 1024;   // answers nobody takes: stop reading
constexpr std::int32_t kCreditPerSecond = 200;
constexpr std::string_view kRoundTripPing = "roundtrp";
// After a round trip in which the windows were wide enough; one so short never needs wider ones.
constexpr base::Duration kNextRoundTripAfter = std::chrono::seconds(1);
constexpr base::Duration kRoundTripMin = std::chrono::milliseconds(2);

/// Whatever code the peer gives, it was the peer who ended the stream; one says that nothing of it
/// was done.
ResetReason reasonOf(H2Error code) {
  return code == H2Error::kRefusedStream ? ResetReason::kRefused : ResetReason::kCancel;
}

}  // namespace

void H2Session::onReadable() {
  if (lingers()) return linger();
  if (eof_) return;
  if (keepalive_ != nullptr) keepalive_->heard = loop_.now();
  refill();
  readSome();
}

/// Time brings back what frames without value and resets took.
void H2Session::refill() {
  const auto passed =
      std::chrono::duration_cast<std::chrono::milliseconds>(loop_.now() - refilled_).count();
  if (passed < 100) return;
  refilled_ = loop_.now();
  const std::int64_t seconds_cap = std::min<std::int64_t>(passed, 60'000);
  reader_.grant(static_cast<std::int32_t>(seconds_cap * kCreditPerSecond / 1000));
  const auto tokens =
      static_cast<std::uint32_t>(seconds_cap * options_.h2.resets_per_second / 1000);
  reset_tokens_ = std::min(options_.h2.resets_burst_max, reset_tokens_ + tokens);
}

void H2Session::readSome() {
  new_streams_ = 0;
  for (int i = 0; i < kReadsPerTurn; ++i) {
    if (isServer() && out_.size() > kPauseBytes) {
      paused_ = true;
      return schedule();
    }
    net::IoResult result{net::IoStatus::kOk, kReadChunkBytes};
    if (!backlog_) result = transport_->read(in_, kReadChunkBytes);
    backlog_ = !process();
    if (isClosed()) return;
    if (backlog_) return transport_->resumeRead();
    if (result.status == net::IoStatus::kError) return ended(transport_->error());
    if (result.status == net::IoStatus::kEof)
      return ended({base::Errc::kClosed, "closed by the peer"});
    if (result.status == net::IoStatus::kAgain || result.bytes < kReadChunkBytes) return;
  }
  transport_->resumeRead();
}

/// Nothing more comes, and nothing that is written would be read.
void H2Session::ended(base::Error error) {
  eof_ = true;
  keepalive_.reset();
  out_.clear();
  onEnd(error);
}

bool H2Session::process() {
  while (!isClosed()) {
    const Event event = reader_.next(in_);
    if (event == Event::kNeedMore) {
      onBytes(!in_.empty() || reader_.insideBlock());
      return true;
    }
    handle(event);
    if (isClosed() || !checkFloods()) return true;
    if (new_streams_ >= kNewStreamsPerTurn) return false;
  }
  return true;
}

void H2Session::handle(Event event) {
  switch (event) {
    case Event::kNeedMore:
      return;
    case Event::kData:
      return handleData();
    case Event::kHeaders:
      return handleHeaders();
    case Event::kReset:
      return handleReset();
    case Event::kSettings:
      return handleSettings();
    case Event::kSettingsAck:
      return;
    case Event::kPing:
      return writePing(reader_.payload(), codec::H2PingKind::kAck);
    case Event::kPingAck:
      return reader_.payload() == kRoundTripPing ? onRoundTrip() : onPingAck();
    case Event::kGoAway:
      return onGoAway(reader_.lastStream(), reader_.code());
    case Event::kWindowUpdate:
      return handleWindowUpdate();
    case Event::kStreamError:
      if (find(reader_.stream()) == nullptr && past(reader_.stream()) == H2Past::kIdle)
        return connectionError(reader_.code(), "frame of an idle stream");
      return streamError(reader_.stream(), reader_.code());
    case Event::kError:
      tellFlood();
      if (reader_.insideBlock() && find(reader_.blockStream()) == nullptr) {
        onBrokenHeaders(reader_.blockStream(), reader_.code() == H2Error::kEnhanceYourCalm
                                                   ? ResetReason::kOverflow
                                                   : ResetReason::kProtocol);
      }
      return connectionError(reader_.code(), reader_.text());
  }
}

void H2Session::tellFlood() {
  switch (reader_.flood()) {
    case codec::H2FrameReader::Flood::kEmptyFrames:
      return tell(H2Event::kEmptyFramesFlood);
    case codec::H2FrameReader::Flood::kPriority:
      return tell(H2Event::kPriorityFramesFlood);
    case codec::H2FrameReader::Flood::kWindowUpdate:
      return tell(H2Event::kWindowUpdateFramesFlood);
    default:
      return;
  }
}

// ---- DATA and windows ----

/// Bytes that no stream keeps: the connection's window opens again, at the latest when the peer has
/// used up half of what streams whose bytes nobody takes leave of it.
void H2Session::discard(std::size_t bytes) {
  give_back_ += static_cast<std::uint32_t>(bytes);
  taken_bytes_ += bytes;
  if (give_back_ == 0 || give_back_ < receive_window_ || isClosed()) return;
  codec::writeH2WindowUpdate(out_, 0, give_back_);
  measureRoundTrip(receive_window_);
  receive_window_ += std::exchange(give_back_, 0);
  schedule();
}

/// Bytes the observer of a stream has taken.
void H2Session::giveBack(H2Stream& stream, std::size_t bytes) {
  discard(bytes);
  if (stream.remote_ended) return;
  stream.give_back += static_cast<std::uint32_t>(bytes);
  if (stream.give_back < options_.h2.stream_window_bytes * window_growth_ / 2) return;
  codec::writeH2WindowUpdate(out_, stream.id, stream.give_back);
  measureRoundTrip(stream.receive_window);
  stream.receive_window += std::exchange(stream.give_back, 0);
  schedule();
}

/// Beside a WINDOW_UPDATE: a peer that has sent all of what was `left` to it before it can have
/// heard of the update had to wait. The first windows are for short ways; nobody pays for wide ones
/// who does not need them.
void H2Session::measureRoundTrip(std::int64_t left) {
  if (measuring_ || window_growth_ >= options_.h2.window_growth_max) return;
  if (measured_ != base::MonotonicTime{} && loop_.now() - measured_ < kNextRoundTripAfter) return;
  measuring_ = true;
  measured_ = loop_.now();
  received_before_ = received_bytes_;
  left_before_ = left;
  writePing(kRoundTripPing, codec::H2PingKind::kAsk);
}

/// It is the way that held the peer back if little of what came waits for those who read it.
void H2Session::onRoundTrip() {
  if (!std::exchange(measuring_, false)) return;
  const auto received = static_cast<std::int64_t>(received_bytes_ - received_before_);
  const std::uint64_t held = received_bytes_ - taken_bytes_;
  const base::Duration took = loop_.now() - std::exchange(measured_, loop_.now());
  const std::uint64_t window = std::uint64_t{options_.h2.stream_window_bytes} * window_growth_;
  if (took < kRoundTripMin || received < left_before_ || held > window / 2) return;
  growWindows();
  measured_ = {};  // and again, to see whether that was enough
}

/// Four times what they were, since each step takes a round trip. SETTINGS widen the window of
/// every stream, of later ones too.
void H2Session::growWindows() {
  const std::uint32_t old = window_growth_;
  window_growth_ = std::min(4 * old, options_.h2.window_growth_max);
  const std::uint32_t stream_bytes = options_.h2.stream_window_bytes * window_growth_;
  const std::int64_t wider = stream_bytes - std::int64_t{options_.h2.stream_window_bytes} * old;
  codec::writeH2Settings(out_, {{codec::H2SettingId::kInitialWindowSize, stream_bytes}});
  unsent_frames_.add(H2UnsentFrames::Kind::kControl);
  findStream([&](H2Stream& stream) {
    stream.receive_window += wider;
    return false;
  });
  const auto connection_bytes = [&](std::uint32_t growth) {
    const std::uint64_t bytes = std::uint64_t{options_.h2.connection_window_bytes} * growth;
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(bytes, options_.h2.connection_window_bytes_max));
  };
  if (const std::uint32_t more = connection_bytes(window_growth_) - connection_bytes(old)) {
    codec::writeH2WindowUpdate(out_, 0, more);
    receive_window_ += more;
  }
  schedule();
}

void H2Session::handleData() {
  const std::size_t bytes = reader_.dataBytes();
  const std::size_t flow = reader_.flowBytes();
  receive_window_ -= static_cast<std::int64_t>(flow);
  received_bytes_ += flow;
  if (receive_window_ < 0) return connectionError(H2Error::kFlowControl, "connection window");
  const std::uint32_t id = reader_.stream();
  H2Stream* stream = find(id);
  if (stream == nullptr) return handleUnknownData(id, bytes);
  if (reader_.paddingBytes() > 0) giveBack(*stream, reader_.paddingBytes());
  stream->receive_window -= static_cast<std::int64_t>(flow);
  H2Error wrong = H2Error::kNone;
  if (stream->remote_ended) {
    wrong = H2Error::kStreamClosed;
  } else if (stream->receive_window < 0) {
    wrong = H2Error::kFlowControl;
  } else if (!isServer() && !stream->head_seen) {
    wrong = H2Error::kProtocol;
  } else if (stream->body_left &&
             (*stream->body_left < bytes || (reader_.endStream() && *stream->body_left != bytes))) {
    wrong = H2Error::kProtocol;  // RFC 9113 8.1.1
  }
  if (wrong != H2Error::kNone) {
    in_.drain(bytes);
    discard(bytes);
    return wrong == H2Error::kProtocol ? invalidMessage(id, "body of another length")
                                       : streamError(id, wrong);
  }
  if (stream->body_left) *stream->body_left -= bytes;
  if (stream->over) {
    in_.drain(bytes);
    discard(bytes);
  } else {
    stream->in.append(in_, bytes);
  }
  if (reader_.endStream()) return remoteEnded(*stream);
  if (stream->wants_body && !stream->in.empty()) wanted(*stream);
}

void H2Session::handleUnknownData(std::uint32_t id, std::size_t bytes) {
  in_.drain(bytes);
  bytes += reader_.paddingBytes();
  switch (past(id)) {
    case H2Past::kIdle:
      return connectionError(H2Error::kProtocol, "DATA of an idle stream");
    case H2Past::kClosed:
    case H2Past::kSkipped:
      discard(bytes);
      return streamError(id, H2Error::kStreamClosed);
    case H2Past::kResetByUs:
    case H2Past::kForgotten:
      return discard(bytes);
  }
}

void H2Session::remoteEnded(H2Stream& stream) {
  stream.remote_ended = true;
  if (stream.local_end_sent && stream.over) {
    remember(stream.id, false);
    return closeStream(stream);
  }
  if (stream.wants_body) wanted(stream);
}

/// One piece, the trailers or the end: the answer to one read().
void H2Session::deliver(H2Stream& stream) {
  if (stream.over || !stream.wants_body || stream.observer == nullptr) return;
  if (stream.in.empty() && !stream.remote_ended) return;
  stream.wants_body = false;
  StreamObserver& told = *stream.observer;
  if (stream.in.empty() && stream.trailers_in != nullptr) {
    HeaderMap trailers = std::move(*stream.trailers_in);
    stream.trailers_in.reset();
    if (!isServer()) tellEnded(stream);
    return told.onTrailers(std::move(trailers));
  }
  base::Buffer piece;
  const std::size_t count = std::min(stream.in.size(), kReadBytes);
  piece.append(stream.in, count);
  giveBack(stream, count);
  const bool last = stream.remote_ended && stream.in.empty() && stream.trailers_in == nullptr;
  if (last && !isServer()) tellEnded(stream);
  told.onData(piece, last ? End::kYes : End::kNo);
}

void H2Session::handleWindowUpdate() {
  const std::uint32_t id = reader_.stream();
  const auto increment = static_cast<std::int64_t>(reader_.increment());
  if (id == 0) {
    send_window_ += increment;
    if (send_window_ > codec::kH2WindowMax)
      return connectionError(H2Error::kFlowControl, "connection window overflow");
    return schedule();
  }
  H2Stream* stream = find(id);
  if (stream == nullptr) {
    if (past(id) == H2Past::kIdle)
      connectionError(H2Error::kProtocol, "WINDOW_UPDATE of an idle stream");
    return;
  }
  stream->send_window += increment;
  if (stream->send_window > codec::kH2WindowMax) return streamError(id, H2Error::kFlowControl);
  if (!stream->out.empty()) offer(*stream);
}

void H2Session::handleSettings() {
  const codec::H2Settings& settings = reader_.settings();
  encoder_.setPeerTableSize(settings.header_table_size_smallest);
  encoder_.setPeerTableSize(settings.header_table_size);
  const std::int64_t change =
      static_cast<std::int64_t>(settings.initial_window) - peer_initial_window_;
  peer_initial_window_ = settings.initial_window;
  codec::writeH2SettingsAck(out_);
  unsent_frames_.add(H2UnsentFrames::Kind::kControl);
  schedule();
  const auto overflows = [&](H2Stream& stream) {
    stream.send_window += change;
    if (stream.send_window > codec::kH2WindowMax) return true;
    if (!stream.out.empty()) offer(stream);
    return false;
  };
  if (change != 0 && findStream(overflows) != nullptr)
    return connectionError(H2Error::kFlowControl, "stream window overflow");
  onSettings();
}

// ---- HEADERS and RST_STREAM ----

void H2Session::handleHeaders() {
  const std::uint32_t id = reader_.stream();
  H2Stream* stream = find(id);
  const H2Message kind = isServer()
                             ? (stream == nullptr ? H2Message::kRequest : H2Message::kTrailers)
                         : stream != nullptr && stream->head_seen ? H2Message::kTrailers
                                                                  : H2Message::kResponse;
  H2HeaderReader fields(kind);
  // Always decoded: the table of the connection must stay in step.
  const auto status = decoder_.decode(reader_.block(), fields);
  if (status == codec::HpackDecoder::Status::kError) {
    if (stream == nullptr) onBrokenHeaders(id, ResetReason::kProtocol);
    return connectionError(H2Error::kCompression, "malformed header block");
  }
  const bool too_large = status == codec::HpackDecoder::Status::kTooLarge;
  if (stream == nullptr) return onNewHeaders(id, fields, too_large);
  if (stream->remote_ended) return streamError(id, H2Error::kStreamClosed);
  if (reader_.selfDependent()) return streamError(id, H2Error::kProtocol);
  if (too_large) {
    tell(H2Event::kHeaderOverflow);
    return streamError(id, H2Error::kEnhanceYourCalm);
  }
  if (const char* wrong = fields.finish(); wrong != nullptr)
    return invalidMessage(id, wrong, fields.invalidReason());
  if (kind == H2Message::kResponse) return onResponse(*stream, fields);
  if (!reader_.endStream() || (stream->body_left && *stream->body_left != 0))
    return invalidMessage(id, "body of another length");
  tell(H2Event::kTrailers);
  if (!stream->over) stream->trailers_in = std::make_unique<HeaderMap>(fields.take());
  remoteEnded(*stream);
}

void H2Session::handleReset() {
  const std::uint32_t id = reader_.stream();
  H2Stream* stream = find(id);
  if (stream == nullptr) {
    if (past(id) == H2Past::kIdle)
      connectionError(H2Error::kProtocol, "RST_STREAM of an idle stream");
    return;
  }
  tell(H2Event::kRxReset);
  if (!isServer() && stream->remote_ended && !stream->over) {
    // The answer is complete, the rest of the request is not wanted (RFC 9113 8.1).
    countUnsent(-static_cast<std::ptrdiff_t>(stream->out.size()));
    stream->out.clear();
    stream->trailers_out.reset();
    stream->local_ended = stream->local_end_sent = true;
    return;
  }
  if (isServer() && !chargeReset()) return;
  StreamObserver* told = std::exchange(stream->observer, nullptr);
  remember(id, false);
  closeStream(*stream);
  if (told != nullptr) told->onReset(reasonOf(reader_.code()));
}

}  // namespace postern::http
