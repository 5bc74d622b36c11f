#include "node/container_logs.h"

#include "base/fd.h"
#include "base/strings.h"
#include "node/pod_fields.h"

#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::node {
namespace {

constexpr std::chrono::milliseconds kFollowPeriod{50};
constexpr std::size_t kPieceBytes = 256 * 1024;

/// Goes through a log's files: the rotated one, then the current one, also when that is rotated
/// meanwhile.
class LogReader {
 public:
  explicit LogReader(std::string path) : path_(std::move(path)) {
    if (!open(path_ + ".1")) open(path_);
  }

  /// Appends at most kPieceBytes; false when there is nothing (now).
  bool read(std::string& out) {
    for (int files = 0; files < 3; ++files) {
      if (!file_ && !open(path_)) return false;
      const std::size_t before = out.size();
      out.resize(before + kPieceBytes);
      const ssize_t got = ::read(file_.get(), out.data() + before, kPieceBytes);
      out.resize(before + static_cast<std::size_t>(got > 0 ? got : 0));
      if (got > 0) return true;
      // At the end: if this is not the current file any more, the current one continues it.
      struct stat here{};
      struct stat current{};
      if (::fstat(file_.get(), &here) != 0 || ::stat(path_.c_str(), &current) != 0 ||
          here.st_ino == current.st_ino) {
        return false;
      }
      file_.reset();
    }
    return false;
  }

 private:
  bool open(const std::string& path) {
    file_ = base::Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return static_cast<bool>(file_);
  }
  std::string path_;
  base::Fd file_;
};

/// "<time> <stream> F|P <text>": adds what is to be shown of it.
void show(std::string_view line, const LogOptions& options, std::string& out) {
  const std::size_t time_end = line.find(' ');
  const std::size_t stream_end = line.find(' ', time_end == line.npos ? line.npos : time_end + 1);
  if (stream_end == line.npos || stream_end + 2 > line.size()) return;
  const std::string_view time = line.substr(0, time_end);
  // Both are in UTC with a fixed form up to the seconds, so text compares as time does.
  if (!options.since.empty() && time.substr(0, 19) < std::string_view(options.since).substr(0, 19))
    return;
  if (options.timestamps) {
    out += time;
    out += ' ';
  }
  if (stream_end + 3 <= line.size()) out += line.substr(stream_end + 3);
  if (line[stream_end + 1] == 'F') out += '\n';
}

class LogSender final : public event::Deferred {
 public:
  LogSender(event::Loop& loop, std::unique_ptr<http::Responder> responder, std::string path,
            LogOptions options, base::Function<bool()> running)
      : loop_(loop),
        responder_(std::move(responder)),
        reader_(path),
        options_(std::move(options)),
        running_(std::move(running)),
        timer_(loop, [this] { step(); }) {}

  void start() {
    responder_->start(200, {{"content-type", "text/plain"}});
    responder_->onGone([this] { finish(); });
    if (options_.tail_lines) skipToTail();
    step();
  }

 private:
  /// Reads everything and keeps the last lines. The files are limited in size, so the work is too.
  void skipToTail() {
    std::string all;
    while (reader_.read(all)) {
    }
    std::size_t at = all.size();
    std::uint64_t lines = *options_.tail_lines;
    if (!all.empty() && all.back() == '\n' && lines > 0) --at;
    while (at > 0 && lines > 0) {
      at = all.rfind('\n', at - 1);
      if (at == std::string::npos) {
        at = 0;
        break;
      }
      if (--lines == 0) ++at;
    }
    pending_ = all.substr(at);
  }

  void step() {
    if (done_) return;
    // Asked before reading: what a container wrote before it ended is then read for certain.
    const bool more = options_.follow && running_();
    const bool got = reader_.read(pending_);
    std::string text;
    std::size_t at = 0;
    for (std::size_t end; (end = pending_.find('\n', at)) != std::string::npos; at = end + 1)
      show(std::string_view(pending_).substr(at, end - at), options_, text);
    pending_.erase(0, at);
    if (options_.limit_bytes && text.size() >= *options_.limit_bytes) {
      text.resize(*options_.limit_bytes);
      responder_->write(text);
      return end();
    }
    if (options_.limit_bytes) *options_.limit_bytes -= text.size();
    const std::size_t waiting = text.empty() ? 0 : responder_->write(text);
    if (!got && !more) return end();
    if (waiting > 0) return responder_->onDrained([this] { step(); });
    timer_.arm(got ? base::Duration{} : base::Duration(kFollowPeriod));
  }

  void end() {
    responder_->end();
    finish();
  }
  void finish() {
    if (std::exchange(done_, true)) return;
    timer_.cancel();
    loop_.destroyLater(std::unique_ptr<event::Deferred>(this));
  }

  event::Loop& loop_;
  std::unique_ptr<http::Responder> responder_;
  LogReader reader_;
  LogOptions options_;
  base::Function<bool()> running_;
  event::Timer timer_;
  std::string pending_;
  bool done_ = false;
};

}  // namespace

LogOptions logOptions(const http::Request& request, std::int64_t now_ms) {
  LogOptions out;
  out.tail_lines = base::parseInteger<std::uint64_t>(request.parameter("tailLines"));
  out.limit_bytes = base::parseInteger<std::uint64_t>(request.parameter("limitBytes"));
  out.timestamps = request.parameter("timestamps") == "true";
  out.follow = request.parameter("follow") == "true";
  if (auto seconds = base::parseInteger<std::int64_t>(request.parameter("sinceSeconds")))
    out.since = timeText(now_ms - *seconds * 1000);
  if (std::string time = request.parameter("sinceTime"); !time.empty())
    out.since = timeText(parseTimeMs(time));
  return out;
}

void serveLog(event::Loop& loop, std::unique_ptr<http::Responder> responder, std::string path,
              LogOptions options, base::Function<bool()> running) {
  (new LogSender(loop, std::move(responder), std::move(path), std::move(options),
                 std::move(running)))
      ->start();
}

}  // namespace postern::node
