#include "base/log.h"

#include "base/fd.h"
#include "base/log_format.h"

#include <map>
#include <mutex>
#include <optional>
#include <time.h>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace postern::base {
namespace {

constexpr std::string_view kNames[] = {"trace", "debug",    "info", "warning",
                                       "error", "critical", "off"};

struct Registry {
  std::mutex mutex;
  std::vector<LogComponent*> components;
  LogLevel level = LogLevel::kInfo;
  std::map<std::string, LogLevel, std::less<>> levels;  // asked for by name, also of the unborn
  LogFormat format = *LogFormat::parse(kDefaultLogFormat);
  bool escaped = false;
  std::string path;  // "": stderr
  std::atomic<int> fd{STDERR_FILENO};
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
  const auto asked = all.levels.find(std::string_view(name));
  level_ = asked == all.levels.end() ? all.level : asked->second;
  all.components.push_back(this);
}

void LogComponent::write(LogLevel level, std::string_view text) const {
  Registry& all = registry();
  LogLine line;
  ::clock_gettime(CLOCK_REALTIME, &line.time);
  line.thread = ::syscall(SYS_gettid);
  line.process = ::getpid();
  line.level = level;
  line.component = name_;
  const std::string escaped = all.escaped ? escapeC(text) : std::string();
  line.text = all.escaped ? std::string_view(escaped) : text;
  std::string out;
  all.format.append(out, line);
  // One write per line, so that lines of several threads and processes do not mix.
  [[maybe_unused]] ssize_t n =
      ::write(all.fd.load(std::memory_order_relaxed), out.data(), out.size());
}

bool setLogFormat(std::string_view pattern) {
  auto format = LogFormat::parse(pattern);
  if (format) registry().format = std::move(*format);
  return format.has_value();
}

void setLogEscaped(bool escaped) { registry().escaped = escaped; }

bool setLogFile(const std::string& path) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  const std::string& wanted = path.empty() ? all.path : path;
  if (wanted.empty()) return true;  // stderr stays
  Fd file(::open(wanted.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  if (!file) return false;
  all.path = std::string(wanted);
  const int now = all.fd.load(std::memory_order_relaxed);
  // The number stays the same once it is a file's, so that a line being written finds it open.
  if (now != STDERR_FILENO) return ::dup3(file.get(), now, O_CLOEXEC) >= 0;
  all.fd.store(file.release(), std::memory_order_relaxed);
  return true;
}

void setLogLevel(LogLevel level) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  all.level = level;
  all.levels.clear();
  for (LogComponent* component : all.components) component->setLevel(level);
}

bool setLogLevel(std::string_view component, LogLevel level) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  all.levels.insert_or_assign(std::string(component), level);
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
