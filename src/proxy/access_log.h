// Text access logs: a format string compiled once, a record per request or connection, and a file
// written at most 100 ms later. One log per worker; O_APPEND keeps the lines of workers apart.
#pragma once

#include "event/loop.h"
#include "http/headers.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace postern::proxy {

/// What a line can tell. Empty text prints "-".
struct AccessRecord {
  std::chrono::system_clock::time_point start;
  std::chrono::milliseconds duration{0};
  const http::HeaderMap* request = nullptr;
  const http::HeaderMap* response = nullptr;
  std::string protocol;
  int response_code = 0;
  std::string flags;
  std::string details;
  std::string failure;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
  std::string upstream_host;
  std::string upstream_cluster;
  std::string upstream_local;
  std::string downstream_local;
  std::string downstream_remote;
  std::string server_name;
  std::string route_name;
};

/// A compiled format; unknown operators print "-".
class LogFormat {
 public:
  explicit LogFormat(std::string_view format);
  std::string line(const AccessRecord& record) const;

 private:
  struct Piece {
    std::string literal;  // used when `command` is empty
    std::string command;
    std::string argument;
    std::size_t length_max = 0;  // 0: whole
  };
  static std::string value(const Piece& piece, const AccessRecord& record);
  std::vector<Piece> pieces_;
};

/// Log files of one worker, by path.
class AccessLogWriter {
 public:
  explicit AccessLogWriter(event::Loop& loop) : flush_(loop, [this] { flush(); }) {}
  ~AccessLogWriter() { flush(); }
  void write(const std::string& path, std::string_view line);

 private:
  struct File {
    base::Fd fd;
    std::string pending;
  };
  static void drain(File& file);
  void flush();
  std::map<std::string, File> files_;
  event::Timer flush_;
};

}  // namespace postern::proxy
