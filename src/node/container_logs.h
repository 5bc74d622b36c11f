// A container's log for `kubectl logs`: reads the files the sandbox writes (runtime/log_file.h),
// from the asked line or time on, and goes on while the container runs. Loop thread.
#pragma once

#include "event/loop.h"
#include "http/server.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace postern::node {

struct LogOptions {
  std::optional<std::uint64_t> tail_lines;
  std::string since;  // RFC 3339 in UTC; lines before it are left out
  std::optional<std::uint64_t> limit_bytes;
  bool timestamps = false;
  bool follow = false;
};

/// From the query of /containerLogs: tailLines, sinceSeconds, sinceTime, limitBytes, timestamps,
/// follow.
LogOptions logOptions(const http::Request& request, std::int64_t now_ms);

/// Answers with the log of `path` (and what was rotated away before it). With `follow` it goes on
/// until `running` says no and everything was sent. Owns itself.
void serveLog(event::Loop& loop, std::unique_ptr<http::Responder> responder, std::string path,
              LogOptions options, base::Function<bool()> running);

}  // namespace postern::node
