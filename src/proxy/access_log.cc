#include "proxy/access_log.h"

#include "formatter/format_piece.h"
#include "proxy/logs.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace postern::proxy {

namespace {

constexpr std::size_t kPendingBytesMax = 1024 * 1024;  // of a reader that does not read
bool compare(LogFilter::Op op, std::uint64_t value, std::uint64_t wanted) {
  switch (op) {
    case LogFilter::Op::kEqual:
      return value == wanted;
    case LogFilter::Op::kAtLeast:
      return value >= wanted;
    case LogFilter::Op::kAtMost:
      return value <= wanted;
    case LogFilter::Op::kNotEqual:
      return value != wanted;
  }
  return false;
}

std::uint64_t random64() {
  thread_local base::Random random;
  return random.next();
}

/// All that sample by its request id choose the same requests: its first 8 digits are the number.
std::uint64_t sampleOf(const formatter::AccessRecord& record, bool independent) {
  constexpr std::size_t kDigits = 8;
  constexpr int kHexadecimal = 16;
  if (independent || record.request == nullptr) return random64();
  const std::string_view id = record.request->value("x-request-id");
  std::uint64_t out = 0;
  if (id.size() < kDigits) return random64();
  const auto read = std::from_chars(id.data(), id.data() + kDigits, out, kHexadecimal);
  return read.ptr == id.data() + kDigits ? out : random64();
}

}  // namespace

bool LogFilter::passes(const formatter::AccessRecord& record) const {
  switch (kind) {
    case Kind::kStatus:
      return compare(op, static_cast<std::uint64_t>(record.response_code), value);
    case Kind::kDuration: {
      const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
          record.at.response_end - record.at.request_begin);
      return compare(op, static_cast<std::uint64_t>(std::max<std::int64_t>(0, took.count())),
                     value);
    }
    case Kind::kNotHealthCheck:
      return true;  // the health check filter, which marks them, is not there
    case Kind::kRuntime:
      return share.hit(sampleOf(record, independent));
    case Kind::kAnd:
      return std::all_of(nested.begin(), nested.end(),
                         [&](const LogFilter& each) { return each.passes(record); });
    case Kind::kOr:
      return std::any_of(nested.begin(), nested.end(),
                         [&](const LogFilter& each) { return each.passes(record); });
    case Kind::kHeader:
      return record.request != nullptr && header.matches(*record.request);
    case Kind::kFlags:
      return flags == 0 ? record.flags.any() : (record.flags.bits() & flags) != 0;
    case Kind::kGrpcStatus: {
      int status = formatter::grpcStatus(record);
      if (status < 0) status = formatter::grpcStatusOf(record.response_code);
      const bool listed =
          std::find(grpc_statuses.begin(), grpc_statuses.end(), status) != grpc_statuses.end();
      return listed != exclude;
    }
  }
  return true;
}

AccessLogWriter::File& AccessLogWriter::file(const std::string& path) {
  if (last_ != nullptr && *last_path_ == path) return *last_;
  auto [it, added] = files_.try_emplace(path);
  File& out = it->second;
  if (added || out.fd < 0) {
    // Opening /dev/stdout again fails when it is a socket, and would truncate nothing but offsets
    // when it is a file: the process's own descriptor is what is meant.
    if (path == "/dev/stdout") {
      out.fd = STDOUT_FILENO;
    } else if (path == "/dev/stderr") {
      out.fd = STDERR_FILENO;
    } else {
      out.owned = base::Fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
      out.fd = out.owned.get();
      if (out.fd < 0)
        kAccessLogLog.warning("cannot open access log {}: {}", path, std::strerror(errno));
    }
  }
  last_path_ = &it->first;
  last_ = &out;
  return out;
}

void AccessLogWriter::log(const std::vector<AccessLogConfig>& logs,
                          const formatter::AccessRecord& record) {
  for (const AccessLogConfig& each : logs) {
    if (!each.filter.empty() && !each.filter[0].passes(record)) continue;
    File& to = file(each.path);
    if (to.pending.size() > kPendingBytesMax) continue;  // a log must not eat the memory
    if (each.json) {
      each.json->append(to.pending, record);
      to.pending += '\n';
    } else {
      each.text.append(to.pending, record, each.omit_empty ? "" : "-");
    }
    if (to.pending.size() >= options_.write_at_bytes) drain(to);
    if (!flush_.armed()) flush_.arm(options_.wait);
  }
}

void AccessLogWriter::drain(File& file) {
  std::string_view rest = file.pending;
  while (file.fd >= 0 && !rest.empty()) {
    const ssize_t written = ::write(file.fd, rest.data(), rest.size());
    if (written > 0) {
      rest.remove_prefix(static_cast<std::size_t>(written));
      continue;
    }
    if (errno == EINTR) continue;
    // A pipe whose reader is slow: what fits not is kept for the next flush. Any other failure
    // drops the lines: a log that cannot be written must not stop traffic.
    if (errno == EAGAIN && rest.size() <= kPendingBytesMax) {
      file.pending.erase(0, file.pending.size() - rest.size());
      return;
    }
    break;
  }
  file.pending.clear();
}

void AccessLogWriter::flush() {
  for (auto& [path, file] : files_) {
    drain(file);
    if (!file.pending.empty() && !flush_.armed()) flush_.arm(options_.wait);
  }
}

void AccessLogWriter::reopen() {
  flush();
  for (auto& [path, file] : files_) {
    file.owned = base::Fd();
    file.fd = -1;
  }
  last_ = nullptr;
}

}  // namespace postern::proxy
