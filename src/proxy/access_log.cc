#include "proxy/access_log.h"

#include "base/strings.h"

#include <fmt/format.h>

#include <ctime>

#include <fcntl.h>
#include <unistd.h>

namespace postern::proxy {

namespace {

constexpr std::size_t kPendingBytesMax = 64 * 1024;
constexpr auto kFlushAfter = std::chrono::milliseconds(100);

std::string iso8601(std::chrono::system_clock::time_point at) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(at);
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count() % 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, ms);
}

/// "X?Y": the first header that is there.
std::string header(const http::HeaderMap* headers, std::string_view names) {
  if (headers == nullptr) return {};
  const std::size_t mark = names.find('?');
  for (std::string_view name :
       {names.substr(0, mark),
        mark == std::string_view::npos ? std::string_view() : names.substr(mark + 1)}) {
    if (name.empty()) continue;
    std::string lower = base::toLower(name);
    if (lower == "path" || lower == "method" || lower == "authority") lower.insert(0, 1, ':');
    if (auto value = headers->get(lower)) return std::string(*value);
  }
  return {};
}

std::string_view withoutPort(std::string_view address) {
  return address.substr(0, address.rfind(':'));
}

}  // namespace

LogFormat::LogFormat(std::string_view format) {
  std::size_t at = 0;
  while (at < format.size()) {
    const std::size_t open = format.find('%', at);
    if (open != at) pieces_.push_back({std::string(format.substr(at, open - at)), "", "", 0});
    if (open == std::string_view::npos) return;
    const std::size_t close = format.find('%', open + 1);
    if (close == std::string_view::npos) {
      pieces_.push_back({std::string(format.substr(open)), "", "", 0});
      return;
    }
    at = close + 1;
    std::string_view body = format.substr(open + 1, close - open - 1);
    if (body.empty()) {
      pieces_.push_back({"%", "", "", 0});
      continue;
    }
    Piece piece;
    const std::size_t paren = body.find('(');
    const std::size_t end = body.rfind(')');
    if (paren != std::string_view::npos && end != std::string_view::npos && end > paren) {
      piece.argument = body.substr(paren + 1, end - paren - 1);
      const std::string_view rest = body.substr(end + 1);
      if (rest.starts_with(':'))
        piece.length_max = base::parseInteger<std::size_t>(rest.substr(1)).value_or(0);
      body = body.substr(0, paren);
    }
    piece.command = body;
    pieces_.push_back(std::move(piece));
  }
}

std::string LogFormat::value(const Piece& piece, const AccessRecord& record) {
  const std::string& name = piece.command;
  if (name == "START_TIME") return iso8601(record.start);
  if (name == "REQ") return header(record.request, piece.argument);
  if (name == "RESP") return header(record.response, piece.argument);
  if (name == "PROTOCOL") return record.protocol;
  if (name == "RESPONSE_CODE") return std::to_string(record.response_code);
  if (name == "RESPONSE_FLAGS") return record.flags;
  if (name == "RESPONSE_CODE_DETAILS") return record.details;
  if (name == "UPSTREAM_TRANSPORT_FAILURE_REASON") return record.failure;
  if (name == "BYTES_RECEIVED") return std::to_string(record.bytes_received);
  if (name == "BYTES_SENT") return std::to_string(record.bytes_sent);
  if (name == "DURATION") return std::to_string(record.duration.count());
  if (name == "UPSTREAM_HOST" || name == "UPSTREAM_REMOTE_ADDRESS") return record.upstream_host;
  if (name == "UPSTREAM_CLUSTER" || name == "UPSTREAM_CLUSTER_RAW") return record.upstream_cluster;
  if (name == "UPSTREAM_LOCAL_ADDRESS") return record.upstream_local;
  if (name == "DOWNSTREAM_LOCAL_ADDRESS") return record.downstream_local;
  if (name == "DOWNSTREAM_REMOTE_ADDRESS" || name == "DOWNSTREAM_DIRECT_REMOTE_ADDRESS")
    return record.downstream_remote;
  if (name == "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT")
    return std::string(withoutPort(record.downstream_remote));
  if (name == "REQUESTED_SERVER_NAME") return record.server_name;
  if (name == "ROUTE_NAME") return record.route_name;
  return {};
}

std::string LogFormat::line(const AccessRecord& record) const {
  std::string out;
  for (const Piece& piece : pieces_) {
    if (piece.command.empty()) {
      out += piece.literal;
      continue;
    }
    std::string text = value(piece, record);
    if (text.empty()) text = "-";
    if (piece.length_max > 0 && text.size() > piece.length_max) text.resize(piece.length_max);
    out += text;
  }
  return out;
}

void AccessLogWriter::write(const std::string& path, std::string_view line) {
  File& file = files_[path];
  if (!file.fd) {
    file.fd = base::Fd(path == "/dev/stdout"
                           ? ::dup(STDOUT_FILENO)
                           : ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  }
  file.pending += line;
  if (file.pending.size() > kPendingBytesMax) drain(file);
  if (!flush_.armed()) flush_.arm(kFlushAfter);
}

void AccessLogWriter::drain(File& file) {
  std::string_view rest = file.pending;
  while (file.fd && !rest.empty()) {
    const ssize_t written = ::write(file.fd.get(), rest.data(), rest.size());
    if (written <= 0) break;  // A log that cannot be written must not stop traffic.
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  file.pending.clear();
}

void AccessLogWriter::flush() {
  for (auto& [path, file] : files_) drain(file);
}

}  // namespace postern::proxy
