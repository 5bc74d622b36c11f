#include "base/log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <mutex>
#include <time.h>

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace postern::base {
namespace {

constexpr std::string_view kNames[] = {"trace", "debug",    "info", "warning",
                                       "error", "critical", "off"};

struct Registry {
  std::mutex mutex;
  std::vector<LogComponent*> components;
  LogLevel level = LogLevel::kInfo;
};

// Components are objects of static storage in many files; a function-local registry has no
// initialisation order.
Registry& registry() {
  static Registry* instance = new Registry;  // never destroyed: components may log during exit
  return *instance;
}

}  // namespace

bool parseLogLevel(std::string_view word, LogLevel& level) {
  if (word == "warn") word = "warning";
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (kNames[i] == word) {
      level = static_cast<LogLevel>(i);
      return true;
    }
  }
  return false;
}

std::string_view toString(LogLevel level) { return kNames[static_cast<std::size_t>(level)]; }

LogComponent::LogComponent(const char* name) : name_(name) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  level_ = all.level;
  all.components.push_back(this);
}

void LogComponent::write(LogLevel level, std::string_view text) const {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  std::tm utc{};
  gmtime_r(&now.tv_sec, &utc);
  fmt::memory_buffer line;
  fmt::format_to(std::back_inserter(line), "[{:%Y-%m-%d %H:%M:%S}.{:03}][{}][{}][{}] {}\n", utc,
                 now.tv_nsec / 1'000'000, ::syscall(SYS_gettid), toString(level), name_, text);
  // One write per line, so that lines of several threads and processes do not mix.
  [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

void setLogLevel(LogLevel level) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  all.level = level;
  for (LogComponent* component : all.components) component->setLevel(level);
}

bool setLogLevel(std::string_view component, LogLevel level) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  bool found = false;
  for (LogComponent* each : all.components) {
    if (component == each->name()) {
      each->setLevel(level);
      found = true;
    }
  }
  return found;
}

std::vector<std::pair<std::string, LogLevel>> logLevels() {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  std::vector<std::pair<std::string, LogLevel>> out;
  for (LogComponent* component : all.components)
    out.emplace_back(component->name(), component->level());
  return out;
}

}  // namespace postern::base
