// Process log to stderr (or a file) in Envoy's line shape: "[2026-01-01
// 10:00:00.000][1234][info][component] text". Levels per component may change at run time (admin
// /logging). Never log secrets, tokens or key material. Any thread.
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::base {

enum class LogLevel : unsigned char { kTrace, kDebug, kInfo, kWarning, kError, kCritical, kOff };

/// "trace" … "critical", "off"; also accepts "warn". Returns false for other words.
bool parseLogLevel(std::string_view word, LogLevel& level);
std::string_view toString(LogLevel level);

/// A named source of log lines. Define one per folder with static storage:
/// `inline base::LogComponent kLog("http");`
class LogComponent {
 public:
  explicit LogComponent(const char* name);
  const char* name() const { return name_; }
  bool enabled(LogLevel level) const { return level >= level_.load(std::memory_order_relaxed); }
  void setLevel(LogLevel level) { level_.store(level, std::memory_order_relaxed); }
  LogLevel level() const { return level_.load(std::memory_order_relaxed); }

  template <class... Args>
  void trace(fmt::format_string<Args...> text, Args&&... args) {
    log(LogLevel::kTrace, text, std::forward<Args>(args)...);
  }
  template <class... Args>
  void debug(fmt::format_string<Args...> text, Args&&... args) {
    log(LogLevel::kDebug, text, std::forward<Args>(args)...);
  }
  template <class... Args>
  void info(fmt::format_string<Args...> text, Args&&... args) {
    log(LogLevel::kInfo, text, std::forward<Args>(args)...);
  }
  template <class... Args>
  void warning(fmt::format_string<Args...> text, Args&&... args) {
    log(LogLevel::kWarning, text, std::forward<Args>(args)...);
  }
  template <class... Args>
  void error(fmt::format_string<Args...> text, Args&&... args) {
    log(LogLevel::kError, text, std::forward<Args>(args)...);
  }
  template <class... Args>
  void critical(fmt::format_string<Args...> text, Args&&... args) {
    log(LogLevel::kCritical, text, std::forward<Args>(args)...);
  }

 private:
  template <class... Args>
  void log(LogLevel level, fmt::format_string<Args...> text, Args&&... args) {
    if (enabled(level)) write(level, fmt::vformat(text, fmt::make_format_args(args...)));
  }
  void write(LogLevel level, std::string_view text) const;

  const char* name_;
  std::atomic<LogLevel> level_{LogLevel::kInfo};
};

/// Sets the level of all components, present and future.
void setLogLevel(LogLevel level);
/// Sets one component's level, also of those that come later; false when there is none of that name
/// yet.
bool setLogLevel(std::string_view component, LogLevel level);
/// The shape of the lines (see log_format.h); false and no change when it is not one. Before other
/// threads exist.
bool setLogFormat(std::string_view pattern);
/// Writes control characters of texts as C does ("\n"). Before other threads exist.
void setLogEscaped(bool escaped);
/// Appends the lines to this file instead of stderr; false and no change when it cannot be opened.
/// An empty path means the last one given: opens it again, after a rotation. Any thread.
bool setLogFile(const std::string& path);
/// (name, level) of each component, in order of registration.
std::vector<std::pair<std::string, LogLevel>> logLevels();

}  // namespace postern::base
