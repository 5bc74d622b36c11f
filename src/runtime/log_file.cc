#include "runtime/log_file.h"

#include <fmt/core.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

std::string stamp() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  std::tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     now.tv_nsec);
}

}  // namespace

LogFile::LogFile(std::string path, std::size_t file_bytes_max)
    : path_(std::move(path)), file_bytes_max_(file_bytes_max) {
  open();
}

void LogFile::open() {
  file_ = base::Fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  struct stat info{};
  file_bytes_ =
      file_ && ::fstat(file_.get(), &info) == 0 ? static_cast<std::size_t>(info.st_size) : 0;
}

void LogFile::line(std::string& out, Stream stream, char tag, std::string_view text) {
  out += stamp();
  out += stream == Stream::kOut ? " stdout " : " stderr ";
  out += tag;
  out += ' ';
  out += text;
  out += '\n';
}

void LogFile::write(Stream stream, std::string_view bytes) {
  std::string& pending = pending_[static_cast<std::size_t>(stream)];
  std::string out;
  while (!bytes.empty()) {
    const std::size_t room = kLineBytesMax - pending.size();
    const std::size_t end = bytes.substr(0, room).find('\n');
    if (end == std::string_view::npos) {
      const std::size_t take = std::min(room, bytes.size());
      pending.append(bytes.substr(0, take));
      bytes.remove_prefix(take);
      if (pending.size() == kLineBytesMax) {
        line(out, stream, 'P', pending);
        pending.clear();
      }
      continue;
    }
    pending.append(bytes.substr(0, end));
    bytes.remove_prefix(end + 1);
    line(out, stream, 'F', pending);
    pending.clear();
  }
  append(out);
}

void LogFile::finish() {
  std::string out;
  for (const Stream stream : {Stream::kOut, Stream::kError}) {
    std::string& pending = pending_[static_cast<std::size_t>(stream)];
    if (!pending.empty()) line(out, stream, 'F', pending);
    pending.clear();
  }
  append(out);
}

void LogFile::append(const std::string& text) {
  if (text.empty()) return;
  if (file_bytes_ > 0 && file_bytes_ + text.size() > file_bytes_max_) {
    ::rename(path_.c_str(), (path_ + ".1").c_str());
    open();
  }
  if (!file_) open();
  std::string_view rest = text;
  while (file_ && !rest.empty()) {
    const ssize_t written = ::write(file_.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;  // a full disk: the container must go on
    rest.remove_prefix(static_cast<std::size_t>(written));
    file_bytes_ += static_cast<std::size_t>(written);
  }
  lost_bytes_ += rest.size();
}

}  // namespace postern::runtime
