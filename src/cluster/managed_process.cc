#include "cluster/managed_process.h"

#include "base/log.h"
#include "base/strings.h"
#include "cluster/files.h"
#include "cluster/supervisor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::cluster {
namespace {

constexpr std::size_t kReportBytesMax = 4096;

base::LogComponent& processLog() {
  static base::LogComponent component("supervisor");
  return component;
}

std::string describeEnd(const siginfo_t& info) {
  if (info.si_pid == 0) return "ended";  // somebody else's child: its status is not told
  return info.si_code == CLD_EXITED ? fmt::format("exit status {}", info.si_status)
                                    : fmt::format("signal {}", info.si_status);
}

}  // namespace

ManagedProcess::ManagedProcess(event::Loop& loop, const DataFolder& folder, Spec spec,
                               Observer& observer)
    : loop_(loop),
      folder_(folder),
      spec_(std::move(spec)),
      observer_(observer),
      restart_(loop, [this] {
        state_ = State::kWaiting;
        observer_.onChange(*this, "");
      }) {}

bool ManagedProcess::adopt() {
  auto record = ProcessRecord::read(recordPath());
  if (!record || record->name != spec_.name) return false;
  base::Fd pidfd = record->open();
  if (!pidfd) return false;
  if (record->version != POSTERN_VERSION && !spec_.keep_across_versions) {
    processLog().info("{} is of version {}: it is started again", spec_.name, record->version);
    endProcess(pidfd, std::chrono::seconds(3));
    return false;
  }
  processLog().info("{} (pid {}) still runs: taken over", spec_.name, record->pid);
  pid_ = record->pid;
  pidfd_ = std::move(pidfd);
  started_at_ = loop_.clock().monotonic();
  since_unix_ms_ =
      std::chrono::duration_cast<std::chrono::milliseconds>(loop_.clock().wall().time_since_epoch())
          .count();
  state_ = State::kReady;
  ever_ready_ = true;
  watch();
  return true;
}

void ManagedProcess::start() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return observer_.onChange(*this, std::strerror(errno));
  }
  report_ = base::Fd(ends[0]);
  base::Fd writer(ends[1]);
  ::fcntl(report_.get(), F_SETFL, O_NONBLOCK);
  report_text_.clear();
  const base::Fd log_fd(
      ::open(folder_.log(spec_.name).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  started_at_ = loop_.clock().monotonic();
  since_unix_ms_ =
      std::chrono::duration_cast<std::chrono::milliseconds>(loop_.clock().wall().time_since_epoch())
          .count();
  auto started = spec_.start(writer.get(), log_fd.get());
  if (!started) {
    processLog().error("{} cannot be started: {}", spec_.name, started.error().message());
    pid_ = -1;
    pidfd_.reset();
    quick_ends_ = std::min(quick_ends_ + 1, 10U);
    state_ = State::kPausing;
    restart_.arm(std::min(kRestartPauseMin * (1 << quick_ends_), kRestartPauseMax));
    return observer_.onChange(*this, started.error().message());
  }
  pid_ = started->pid;
  pidfd_ = std::move(started->pidfd);
  state_ = State::kStarting;
  if (auto record = ProcessRecord::of(spec_.name, pid_); record) {
    if (auto written = record->write(recordPath()); !written) {
      processLog().error("{}", written.error().message());
    }
  }
  processLog().info("{} started, pid {}", spec_.name, pid_);
  watch();
  if (!spec_.reports_ready) return becomeReady();
  report_watch_ = event::FdWatch(loop_, report_.get(), [this](std::uint32_t) { onReport(); });
}

void ManagedProcess::watch() {
  end_watch_ = event::FdWatch(loop_, pidfd_.get(), [this](std::uint32_t) { onEnd(); });
}

void ManagedProcess::onReport() {
  char buffer[512];
  ssize_t n = 0;
  while ((n = ::read(report_.get(), buffer, sizeof(buffer))) > 0 &&
         report_text_.size() < kReportBytesMax) {
    report_text_.append(buffer, static_cast<std::size_t>(n));
  }
  if (report_text_.starts_with("ready\n")) return becomeReady();
  if (n == 0) report_watch_.reset();  // its end is seen on the pidfd
}

void ManagedProcess::becomeReady() {
  report_watch_.reset();
  report_.reset();
  state_ = State::kReady;
  ever_ready_ = true;
  observer_.onChange(*this, "");
}

void ManagedProcess::onEnd() {
  if (ending_) return;
  siginfo_t info{};
  ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
  if (report_) onReport();
  const std::string how = describeEnd(info);
  std::string error;
  if (!ever_ready_) {
    const std::string said =
        report_text_.starts_with("error ")
            ? std::string(base::trim(report_text_.substr(6, report_text_.find('\n') - 6)))
            : lastLogLine();
    error = said.empty() ? fmt::format("it ended ({})", how) : said;
  }
  const auto lived = loop_.clock().monotonic() - started_at_;
  quick_ends_ = lived >= kHealthyLife ? 0 : std::min(quick_ends_ + 1, 10U);
  processLog().warning("{} (pid {}) ended: {}", spec_.name, pid_, how);
  end_watch_.reset();
  report_watch_.reset();
  report_.reset();
  pidfd_.reset();
  pid_ = -1;
  ++restarts_;
  ::unlink(recordPath().c_str());
  state_ = State::kPausing;
  // The first quick end is forgiven: a process killed just after its start is back at once.
  const auto pause = quick_ends_ <= 1
                         ? std::chrono::milliseconds(0)
                         : std::min(kRestartPauseMin * (1 << (quick_ends_ - 1)), kRestartPauseMax);
  restart_.arm(pause);
  observer_.onChange(*this, error);
}

void ManagedProcess::end(std::chrono::milliseconds patience) {
  ending_ = true;
  end_watch_.reset();
  report_watch_.reset();
  restart_.cancel();
  if (pidfd_) {
    if (patience.count() > 0) {
      endProcess(pidfd_, patience);
    } else {
      signalProcess(pidfd_, SIGKILL);
      awaitEnd(pidfd_, std::chrono::seconds(5));
    }
  }
  pidfd_.reset();
  pid_ = -1;
  ::unlink(recordPath().c_str());
}

std::string ManagedProcess::lastLogLine() const {
  auto text = readFile(folder_.log(spec_.name));
  if (!text) return "";
  std::string_view view = *text;
  while (view.ends_with('\n')) view.remove_suffix(1);
  const std::size_t line = view.rfind('\n');
  return std::string(line == std::string_view::npos ? view : view.substr(line + 1));
}

}  // namespace postern::cluster
