// The shape of a log line, in the pattern syntax of spdlog that Envoy's --log-format takes. Parsed
// once, then constant; any thread formats.
#pragma once

#include "base/log.h"

#include <optional>
#include <string>
#include <string_view>
#include <time.h>
#include <vector>

namespace postern::base {

/// What one line is made of.
struct LogLine {
  timespec time{};  // CLOCK_REALTIME
  long thread = 0;
  long process = 0;
  LogLevel level = LogLevel::kInfo;
  std::string_view component;
  std::string_view text;
};

class LogFormat {
 public:
  /// %v text, %_ text with line breaks escaped, %j text escaped for JSON, %l level, %L its letter,
  /// %n component, %t thread, %P process, %Y %y %m %d %H %I %M %S %p %e %f %F %E %T %R %D %z %a %A
  /// %b %B %c %C %r times, %% a percent sign; %g %s %# %! (source locations) print nothing. Any
  /// other flag: none.
  static std::optional<LogFormat> parse(std::string_view pattern);
  /// Appends the line and its '\n'.
  void append(std::string& out, const LogLine& line) const;

 private:
  struct Piece {
    char flag = '\0';  // '\0': literal
    std::string literal;
  };
  std::vector<Piece> pieces_;
};

/// "[2026-01-01 10:00:00.000][1234][info][component] text".
inline constexpr std::string_view kDefaultLogFormat = "[%Y-%m-%d %T.%e][%t][%l][%n] %v";

/// Control characters, quotes and backslashes as C writes them ("\n", "\x01").
std::string escapeC(std::string_view text);

}  // namespace postern::base
