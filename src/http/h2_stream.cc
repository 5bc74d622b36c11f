#include "http/h2_stream.h"

#include "http/h2_session.h"

namespace postern::http {
namespace {

codec::H2Error codeOf(ResetReason reason, bool server) {
  switch (reason) {
    case ResetReason::kRefused:
      return codec::H2Error::kRefusedStream;
    case ResetReason::kProtocol:
      return codec::H2Error::kProtocol;
    case ResetReason::kOverflow:
      return codec::H2Error::kEnhanceYourCalm;
    case ResetReason::kCancel:
    case ResetReason::kTimeout:
      return codec::H2Error::kCancel;
    default:
      return server ? codec::H2Error::kInternal : codec::H2Error::kCancel;
  }
}

}  // namespace

Flow H2Stream::flow() {
  full = full || out.size() > session_.streamUnsentMax();
  return full && !local_ended ? Flow::kFull : Flow::kOpen;
}

Flow H2Stream::sendHeaders(const HeaderMap& headers, End end) {
  if (closed || local_ended || head_sent) return Flow::kOpen;
  if (session_.isServer()) {
    const int status = headers.status();
    head_sent = status >= 200;
    bodiless = head_request || status == 204 || status == 304;
    if (!head_sent) end = End::kNo;
  } else {
    head_sent = true;
    head_request = headers.method() == "HEAD";
  }
  local_ended = end == End::kYes;
  session_.writeHeaders(*this, headers, end);
  return flow();
}

Flow H2Stream::sendData(base::Buffer& data, End end) {
  if (closed || local_ended || !head_sent) {
    data.clear();
    return Flow::kOpen;
  }
  if (bodiless) {
    data.clear();
  } else {
    session_.countUnsent(static_cast<std::ptrdiff_t>(data.size()));
    out.append(data);
  }
  if (end == End::kNo && out.empty()) return Flow::kOpen;
  local_ended = end == End::kYes;
  session_.offer(*this);
  if (local_ended) session_.producerEnded(*this);
  return flow();
}

Flow H2Stream::sendTrailers(const HeaderMap& trailers) {
  if (closed || local_ended || !head_sent) return Flow::kOpen;
  local_ended = true;
  trailers_out = std::make_unique<HeaderMap>(trailers);
  session_.offer(*this);
  session_.producerEnded(*this);
  return Flow::kOpen;
}

void H2Stream::read() {
  if (over || wants_body) return;
  wants_body = true;
  if (!in.empty() || remote_ended) session_.wanted(*this);
}

void H2Stream::reset(ResetReason reason) {
  // Over: what was sent still goes out, as after the end of an HTTP/1 exchange.
  if (closed || over) return;
  over = true;
  observer = nullptr;
  session_.resetByUs(*this, codeOf(reason, session_.isServer()));
}

const net::Transport& H2Stream::transport() const { return session_.wire(); }

}  // namespace postern::http
