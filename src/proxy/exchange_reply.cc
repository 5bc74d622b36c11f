#include "base/strings.h"
#include "formatter/format_piece.h"
#include "http/request_text.h"
#include "proxy/exchange.h"
#include "proxy/forwarding.h"
#include "proxy/proxy_status.h"
#include "tls/x509.h"

namespace postern::proxy {

namespace {

/// grpc-message: printable ASCII but '%' and, as Envoy has it, '~'; the rest escaped.
std::string grpcMessage(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7e && c != '%') {
      out += c;
    } else {
      out += '%';
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out;
}

std::string_view digits(std::uint64_t value, char (&room)[24]) {
  char* end = room + sizeof room;
  char* at = end;
  do {
    *--at = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  return {at, static_cast<std::size_t>(end - at)};
}

}  // namespace

/// Whether the upstream agreed to switch. 200 of an extended CONNECT is a 101 here (RFC 8441).
void Exchange::openTunnel(int& status, End end) {
  const bool up_http2 = record_.upstream_protocol == "HTTP/2";
  const bool connect = upgrade_ == "connect";
  const bool success = status >= 200 && status < 300;
  const bool agreed =
      status == 101 ? !connect && !up_http2 : success && (connect || (up_http2 && end == End::kNo));
  if (!agreed) return;
  tunnel_ = true;
  conn_.stats.cx_upgrades_total.add();
  conn_.stats.cx_upgrades_active.add();
  if (connect || status == 101) return;
  status = 101;
  response_.set(":status", "101");
  response_.set("upgrade", upgrade_);
  const std::string_view key = request_.value("sec-websocket-key");
  if (upgrade_ == "websocket" && !key.empty() && !response_.has("sec-websocket-accept")) {
    const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    response_.add("sec-websocket-accept", base::base64Encode(tls::sha1(text)));
  }
}

/// The head of a tunnel as HTTP/2 says it.
http::HeaderMap Exchange::tunnelHead() const {
  HeaderMap out = response_;
  out.set(":status", "200");
  out.remove("upgrade");
  out.remove("connection");
  if (out.value("content-length") == "0") out.remove("content-length");  // DATA follows
  if (!request_.has("sec-websocket-key")) out.remove("sec-websocket-accept");
  return out;
}

void Exchange::forwardResponse(End end) {
  int status = response_.status();
  if (!upgrade_.empty()) openTunnel(status, end);
  record_.response_code = status;
  record_.details = "via_upstream";
  // The time since the end of the request: an answer that comes before it has taken none.
  if (!config_.suppress_envoy_headers && upgrade_.empty() &&
      record_.at.request_end != base::MonotonicTime{}) {
    const auto took =
        std::chrono::duration_cast<std::chrono::milliseconds>(now() - record_.at.request_end);
    char room[24];
    response_.set(
        "x-envoy-upstream-service-time",
        digits(static_cast<std::uint64_t>(std::max<std::int64_t>(0, took.count())), room));
  }
  record_.response = &response_;
  applyResponseOps(response_);
  if (vhost_->attempt_count_in_response)
    response_.set("x-envoy-attempt-count", std::to_string(record_.attempts));
  addCors(response_);
  sendResponseHeaders(end);
  if (end == End::kYes) return responseComplete();
  if (tunnel_ && config_.log_tunnels) logNow("DownstreamTunnelSuccessfullyEstablished");
  if (tunnel_) {
    if (!request_ended_) readDownstream();
    if (!body_.empty() && up_ != nullptr) up_->sendData(body_, End::kNo);
  }
}

void Exchange::sendResponseHeaders(End end) {
  response_started_ = true;
  request_.prefetchFields();  // for the log
  clear(Deadline::kRequest);  // who is answered may go on sending for as long as it takes
  record_.response = &response_;
  record_.at.response_begin = now();
  mutateResponse(config_, request_, conn_.worker.loop().clock().wall(), response_);
  if (config_.proxy_status) {
    addProxyStatus(*config_.proxy_status, config_.server_name, conn_.worker.options().service_node,
                   record_, response_);
  }
  conn_.onAnswer();
  decideClose();
  const bool switched = tunnel_ && down_->httpVersion() == 2 && response_.status() == 101;
  const http::Flow flow = down_->sendHeaders(switched ? tunnelHead() : response_, end);
  if (end == End::kYes || up_ == nullptr) return;
  if (down_->takesPipes()) up_->acceptPipes(conn_.worker.pipes());
  if (flow == http::Flow::kOpen) up_->read();
}

void Exchange::decideClose() {
  if (!request_ended_) {
    conn_.stats.rq_response_before_rq_complete.add();
    // What is left of the request would have to be read before the next one: not worth waiting for.
    if (down_->httpVersion() != 2 && !tunnel_) conn_.closeSoon();
  }
  if (conn_.closing() && !tunnel_ && down_->httpVersion() != 2)
    response_.set("connection", "close");
}

/// All of the answer is with the codec.
void Exchange::responseComplete() {
  response_ended_ = true;
  // The other side of a tunnel only followed the client, which had left (HTTP/2 ends one
  // direction).
  if (tunnel_ && request_ended_ && down_->httpVersion() != 2) noteClientLeft();
  if (cluster_ != nullptr && record_.at.upstream_tx_begin != base::MonotonicTime{}) {
    const auto took = now() - record_.at.upstream_tx_begin;
    cluster_->stats().upstream_rq_time.record(
        std::chrono::duration<double, std::milli>(took).count());
  }
  finish();
}

void Exchange::mapLocalReply(int& status, std::string& body, std::string& content_type,
                             HeaderMap& headers) {
  record_.response_code = status;
  record_.response = &headers;
  record_.at.response_end = now();
  const ReplyFormat* format = config_.local_format ? &*config_.local_format : nullptr;
  for (const LocalReplyMapper& mapper : config_.local_replies) {
    if (!mapper.filter.passes(record_)) continue;
    if (mapper.status) status = record_.response_code = *mapper.status;
    if (mapper.body) body = *mapper.body;
    if (mapper.format) format = &*mapper.format;
    mapper.headers.apply(headers, record_);
    break;
  }
  if (format == nullptr) return;
  record_.local_reply = record_.keep(std::exchange(body, {}));
  if (format->json) {
    format->json->append(body, record_);
    body += '\n';
  } else {
    format->text.append(body, record_, format->omit_empty ? "" : "-");
  }
  content_type = format->content_type;
}

void Exchange::reply(const Reply& reply) {
  if (done_ || down_ == nullptr) return;
  if (reply.flag) record_.flags.set(*reply.flag);
  record_.details = reply.details;
  resetUpstream();
  endAttempt();
  cancelWait();
  int status = reply.status;
  if (config_.proxy_status && config_.proxy_status->recommended_status) {
    const ProxyError error = proxyErrorOf(record_);
    if (error.status != 0) status = error.status;
  }
  std::string body(reply.body);
  std::string content_type(reply.content_type);
  response_ = HeaderMap();
  response_trailers_.clear();
  record_.trailers = nullptr;
  record_.response = &response_;
  char room[24];
  response_.add(":status", digits(static_cast<std::uint64_t>(status), room));
  if (!reply.location.empty()) response_.add("location", reply.location);
  if (action_ != nullptr || reply.by == By::kRoute) applyResponseOps(response_);
  if (reply.overloaded && !config_.suppress_envoy_headers)
    response_.add("x-envoy-overloaded", "true");
  if (reply.by == By::kRouter && record_.attempts > 0 && vhost_->attempt_count_in_response)
    response_.set("x-envoy-attempt-count", std::to_string(record_.attempts));
  const std::string type_before(response_.value("content-type"));
  if (!config_.local_replies.empty() || config_.local_format)
    mapLocalReply(status, body, content_type, response_);
  const bool grpc = grpc_ || http::isGrpc(request_);
  response_.set(":status", digits(static_cast<std::uint64_t>(grpc ? 200 : status), room));
  if (grpc) {
    const int code = reply.grpc_status >= 0 ? reply.grpc_status : formatter::grpcStatusOf(status);
    response_.set("content-type", "application/grpc");
    response_.remove("content-length");
    if (!response_.has("grpc-status"))
      response_.add("grpc-status", digits(static_cast<std::uint64_t>(code), room));
    if (content_type == "application/json" && body.ends_with('\n')) body.pop_back();
    if (!body.empty() && !head_) response_.add("grpc-message", grpcMessage(body));
    body.clear();
  } else if (!body.empty()) {
    response_.set("content-length", digits(body.size(), room));
    // A route may say what its direct response is; a mapped body says it itself, unless headers of
    // its mapper do.
    const bool mapped = body != reply.body && response_.value("content-type") == type_before;
    if (mapped || !response_.has("content-type")) response_.set("content-type", content_type);
  } else {
    response_.remove("content-length");
    response_.remove("content-type");
  }
  record_.response_code = grpc ? 200 : status;
  addCors(response_);
  // A message nobody could make sense of: what follows it may be anything.
  const bool broken = reply.status == 400 && down_->httpVersion() != 2 && !config_.http1_keeps_open;
  if (reply.close || broken) conn_.closeSoon();
  const bool empty = body.empty() || head_;
  record_.bytes_sent += head_ ? 0 : body.size();
  sendResponseHeaders(empty ? End::kYes : End::kNo);
  if (!empty) {
    base::Buffer data{body};
    down_->sendData(data, End::kYes);
  }
  response_ended_ = true;
  finish();
}

}  // namespace postern::proxy
