// Access logs of one worker: lines in Envoy's formats, kept in memory and written to their file a
// little later. O_APPEND and whole lines per write keep the lines of workers apart. Loop
// thread.
#pragma once

#include "base/fd.h"
#include "base/random.h"
#include "event/loop.h"
#include "proxy/http_config.h"

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace postern::proxy {

class AccessLogWriter {
 public:
  struct Options {
    std::chrono::milliseconds wait{50};      // of a line, at most
    std::size_t write_at_bytes = 64 * 1024;  // what is written without waiting
  };
  AccessLogWriter(event::Loop& loop, Options options)
      : options_(options), flush_(loop, [this] { flush(); }) {}
  ~AccessLogWriter() { flush(); }
  AccessLogWriter(const AccessLogWriter&) = delete;
  AccessLogWriter& operator=(const AccessLogWriter&) = delete;

  /// Writes the record to each log whose filter lets it pass.
  void log(const std::vector<AccessLogConfig>& logs, const formatter::AccessRecord& record);
  /// Writes what is pending now.
  void flush();
  /// Closes the files; the next line opens them again (log rotation).
  void reopen();

 private:
  struct File {
    base::Fd owned;
    int fd = -1;
    std::string pending;
  };
  File& file(const std::string& path);
  static void drain(File& file);
  const Options options_;
  std::map<std::string, File, std::less<>> files_;
  const std::string* last_path_ = nullptr;  // of last_: most requests log to one file
  File* last_ = nullptr;
  event::Timer flush_;
};

}  // namespace postern::proxy
