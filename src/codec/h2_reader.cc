#include "codec/h2_reader.h"

#include <algorithm>
#include <utility>

namespace postern::codec {
namespace {

constexpr std::int32_t kCreditPerHeaders = 20;
constexpr std::int32_t kCreditPerData = 4;
constexpr std::uint32_t kFrameBytesLowest = 16384;
constexpr std::uint32_t kFrameBytesHighest = 16777215;

}  // namespace

H2FrameReader::H2FrameReader(Role role, const H2ReaderLimits& limits)
    : limits_(limits),
      credit_(limits.credit_start),
      state_(role == Role::kServer ? State::kPreface : State::kHeader) {}

void H2FrameReader::grant(std::int32_t credit) {
  credit_ = std::min(limits_.credit_max, credit_ + std::min(credit, limits_.credit_max));
}

bool H2FrameReader::spend() { return --credit_ >= 0; }

H2FrameReader::Event H2FrameReader::fail(H2Error code, const char* text) {
  code_ = code;
  text_ = text;
  return Event::kError;
}

H2FrameReader::Event H2FrameReader::flooded(Flood kind, const char* text) {
  flood_ = kind;
  return fail(H2Error::kEnhanceYourCalm, text);
}

bool H2FrameReader::emptyFlood(bool empty) {
  empty_frames_ = empty ? empty_frames_ + 1 : 0;
  return empty_frames_ > limits_.empty_frames_max;
}

H2FrameReader::Event H2FrameReader::streamError(H2Error code) {
  code_ = code;
  return Event::kStreamError;
}

H2FrameReader::Event H2FrameReader::next(base::Buffer& in) {
  if (drain_ > 0) in.drain(std::exchange(drain_, 0));
  for (;;) {
    if (state_ == State::kPreface) {
      const Event event = readPreface(in);
      if (state_ == State::kPreface) return event;
    }
    if (state_ == State::kHeader) {
      if (in.size() < kH2HeaderBytes) return Event::kNeedMore;
      header_ = parseH2Header(in.contiguous(kH2HeaderBytes));
      in.drain(kH2HeaderBytes);
      const Event wrong = checkHeader();
      if (wrong == Event::kError) return wrong;
      state_ = header_.type == H2Type::kData ? State::kDataStart : State::kPayload;
    }
    if (state_ != State::kPayload) {
      Event out = Event::kNeedMore;
      if (readData(in, out)) return out;
      continue;
    }
    if (in.size() < header_.length) return Event::kNeedMore;
    payload_ = in.contiguous(header_.length);
    state_ = State::kHeader;
    const Event event = readPayload();
    if (event != Event::kNeedMore) {
      drain_ = header_.length;
      return event;
    }
    in.drain(header_.length);
  }
}

H2FrameReader::Event H2FrameReader::readPreface(base::Buffer& in) {
  const std::size_t have = std::min(in.size(), kH2Preface.size());
  if (in.contiguous(have) != kH2Preface.substr(0, have))
    return fail(H2Error::kProtocol, "no connection preface");
  if (have < kH2Preface.size()) return Event::kNeedMore;
  in.drain(have);
  state_ = State::kHeader;
  return Event::kNeedMore;
}

H2FrameReader::Event H2FrameReader::checkHeader() {
  if (header_.length > kH2FrameBytesMax) return fail(H2Error::kFrameSize, "frame too large");
  if (!settings_seen_) {
    if (header_.type != H2Type::kSettings || header_.has(kH2Ack))
      return fail(H2Error::kProtocol, "first frame is not SETTINGS");
    settings_seen_ = true;
  }
  if (block_stream_ != 0 &&
      (header_.type != H2Type::kContinuation || header_.stream != block_stream_))
    return fail(H2Error::kProtocol, "header block interrupted");
  bool of_stream = true;
  switch (header_.type) {
    case H2Type::kSettings:
    case H2Type::kPing:
    case H2Type::kGoAway:
      of_stream = false;
      break;
    case H2Type::kData:
    case H2Type::kHeaders:
    case H2Type::kPriority:
    case H2Type::kRstStream:
      break;
    case H2Type::kContinuation:
      if (block_stream_ == 0) return fail(H2Error::kProtocol, "CONTINUATION without HEADERS");
      break;
    case H2Type::kPushPromise:
      return fail(H2Error::kProtocol, "PUSH_PROMISE");
    case H2Type::kWindowUpdate:
      return checkLength();
    default:
      return Event::kNeedMore;  // an extension: ignored
  }
  if (of_stream != (header_.stream != 0)) return fail(H2Error::kProtocol, "wrong stream number");
  return checkLength();
}

H2FrameReader::Event H2FrameReader::checkLength() {
  bool right = true;
  switch (header_.type) {
    case H2Type::kRstStream:
    case H2Type::kWindowUpdate:
      right = header_.length == 4;
      break;
    case H2Type::kSettings:
      right = header_.has(kH2Ack) ? header_.length == 0 : header_.length % 6 == 0;
      break;
    case H2Type::kPing:
      right = header_.length == 8;
      break;
    case H2Type::kGoAway:
      right = header_.length >= 8;
      break;
    default:
      break;
  }
  return right ? Event::kNeedMore : fail(H2Error::kFrameSize, "wrong frame size");
}

/// DATA is handed on as it comes, not frame by frame. False: go on with the next state.
bool H2FrameReader::readData(base::Buffer& in, Event& out) {
  if (state_ == State::kDataStart) {
    data_left_ = header_.length;
    padding_left_ = 0;
    if (header_.has(kH2Padded)) {
      if (header_.length == 0) {
        out = fail(H2Error::kFrameSize, "padded frame without padding");
        return true;
      }
      if (in.empty()) return true;
      padding_left_ = static_cast<unsigned char>(in.front()[0]);
      if (padding_left_ >= header_.length) {
        out = fail(H2Error::kProtocol, "padding longer than the frame");
        return true;
      }
      in.drain(1);
      data_left_ -= 1 + padding_left_;
    }
    flow_counted_ = false;
    state_ = State::kData;
  }
  if (state_ == State::kData) {
    data_bytes_ = std::min(data_left_, in.size());
    if (data_bytes_ == 0 && data_left_ > 0) return true;
    padding_bytes_ = flow_counted_ ? 0 : header_.length - data_left_;
    // The first piece of a frame takes from the windows, and counts, for the whole of it.
    const bool first = !std::exchange(flow_counted_, true);
    const bool empty = data_left_ == 0;
    flow_bytes_ = first ? header_.length : 0;
    data_left_ -= data_bytes_;
    end_stream_ = data_left_ == 0 && header_.has(kH2EndStream);
    if (data_left_ == 0) state_ = State::kPadding;
    if (first && !empty) grant(kCreditPerData);
    if (first && emptyFlood(empty && !end_stream_)) {
      out = flooded(Flood::kEmptyFrames, "too many empty frames");
      return true;
    }
    out = Event::kData;
    return true;
  }
  const std::size_t drop = std::min(padding_left_, in.size());
  in.drain(drop);
  padding_left_ -= drop;
  if (padding_left_ > 0) return true;
  state_ = State::kHeader;
  return false;
}

H2FrameReader::Event H2FrameReader::readPayload() {
  switch (header_.type) {
    case H2Type::kHeaders:
      return readHeaders();
    case H2Type::kContinuation:
      if (++continuations_ > limits_.continuations_max)
        return fail(H2Error::kEnhanceYourCalm, "too many CONTINUATION frames");
      return appendBlock(payload_);
    default:
      break;
  }
  if (header_.type != H2Type::kPriority && header_.type != H2Type::kWindowUpdate && !spend())
    return flooded(Flood::kControl, "too many control frames");
  switch (header_.type) {
    case H2Type::kPriority:
      if (++priority_frames_ > limits_.priority_frames_per_stream * (1 + streams_opened_))
        return flooded(Flood::kPriority, "too many PRIORITY frames");
      if (header_.length != 5) return streamError(H2Error::kFrameSize);
      if ((readU32(payload_) & 0x7fffffffU) == header_.stream)
        return fail(H2Error::kProtocol, "stream depends on itself");
      return Event::kNeedMore;
    case H2Type::kRstStream:
      code_ = static_cast<H2Error>(readU32(payload_));
      return Event::kReset;
    case H2Type::kSettings:
      return header_.has(kH2Ack) ? Event::kSettingsAck : readSettings();
    case H2Type::kPing:
      return header_.has(kH2Ack) ? Event::kPingAck : Event::kPing;
    case H2Type::kGoAway:
      last_stream_ = readU32(payload_) & 0x7fffffffU;
      code_ = static_cast<H2Error>(readU32(payload_.substr(4)));
      return Event::kGoAway;
    case H2Type::kWindowUpdate:
      return readWindowUpdate();
    default:
      return Event::kNeedMore;
  }
}

H2FrameReader::Event H2FrameReader::readHeaders() {
  std::string_view fragment = payload_;
  if (!stripH2Padding(header_, fragment)) return fail(H2Error::kProtocol, "wrong padding");
  self_dependent_ = false;
  if (header_.has(kH2Priority)) {
    if (fragment.size() < 5) return fail(H2Error::kFrameSize, "HEADERS too short");
    self_dependent_ = (readU32(fragment) & 0x7fffffffU) == header_.stream;
    fragment.remove_prefix(5);
  }
  grant(kCreditPerHeaders);
  block_ends_stream_ = header_.has(kH2EndStream);
  block_store_.clear();
  continuations_ = 0;
  return appendBlock(fragment);
}

H2FrameReader::Event H2FrameReader::appendBlock(std::string_view fragment) {
  if (emptyFlood(fragment.empty() && !header_.has(kH2EndHeaders) && !block_ends_stream_))
    return flooded(Flood::kEmptyFrames, "too many empty frames");
  if (block_store_.size() + fragment.size() > limits_.block_bytes_max) {
    block_stream_ = header_.stream;
    return fail(H2Error::kEnhanceYourCalm, "header block too large");
  }
  const bool whole = header_.has(kH2EndHeaders);
  end_stream_ = block_ends_stream_;
  if (whole && block_stream_ == 0) {
    block_ = fragment;
    return Event::kHeaders;
  }
  block_store_.append(fragment);
  block_stream_ = whole ? 0 : header_.stream;
  if (!whole) return Event::kNeedMore;
  block_ = block_store_;
  return Event::kHeaders;
}

H2FrameReader::Event H2FrameReader::readSettings() {
  settings_.header_table_size_smallest = settings_.header_table_size;
  for (std::string_view rest = payload_; !rest.empty(); rest.remove_prefix(6)) {
    const auto id = static_cast<H2SettingId>(readU32(rest) >> 16);
    const std::uint32_t value = readU32(rest.substr(2));
    switch (id) {
      case H2SettingId::kHeaderTableSize:
        settings_.header_table_size = value;
        settings_.header_table_size_smallest =
            std::min(settings_.header_table_size_smallest, value);
        break;
      case H2SettingId::kEnablePush:
        if (value > 1) return fail(H2Error::kProtocol, "SETTINGS_ENABLE_PUSH");
        break;
      case H2SettingId::kMaxConcurrentStreams:
        settings_.concurrent_streams_max = value;
        break;
      case H2SettingId::kInitialWindowSize:
        if (value > kH2WindowMax)
          return fail(H2Error::kFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE");
        settings_.initial_window = value;
        break;
      case H2SettingId::kMaxFrameSize:
        if (value < kFrameBytesLowest || value > kFrameBytesHighest)
          return fail(H2Error::kProtocol, "SETTINGS_MAX_FRAME_SIZE");
        settings_.frame_bytes_max = value;
        break;
      case H2SettingId::kEnableConnectProtocol:
        if (value > 1) return fail(H2Error::kProtocol, "SETTINGS_ENABLE_CONNECT_PROTOCOL");
        settings_.connect_protocol = value == 1;
        break;
      default:
        break;
    }
  }
  return Event::kSettings;
}

H2FrameReader::Event H2FrameReader::readWindowUpdate() {
  constexpr std::uint64_t kAlways = 5;
  constexpr std::uint64_t kPerStream = 2;
  const std::uint64_t most =
      kAlways +
      kPerStream * (streams_opened_ + limits_.window_updates_per_data_frame * data_frames_sent_);
  if (++window_updates_ > most)
    return flooded(Flood::kWindowUpdate, "too many WINDOW_UPDATE frames");
  increment_ = readU32(payload_) & 0x7fffffffU;
  if (increment_ > 0) return Event::kWindowUpdate;
  if (header_.stream == 0) return fail(H2Error::kProtocol, "WINDOW_UPDATE of zero");
  return streamError(H2Error::kProtocol);
}

}  // namespace postern::codec
