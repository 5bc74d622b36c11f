#include "runtime/container.h"

#include "runtime/rootfs.h"

#include <fmt/core.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

constexpr std::size_t kOutputReadBytes = 65536;

std::int64_t nowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

struct Pipe {
  base::Fd reader;
  base::Fd writer;
};

std::expected<Pipe, StartFailure> makePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return std::unexpected(StartFailure{fmt::format("cannot make a pipe: {}", strerror(errno))});
  }
  openToAll(ends[0]);
  return Pipe{base::Fd(ends[0]), base::Fd(ends[1])};
}

void setNonBlocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

}  // namespace

void openToAll(int pipe_fd) {
  struct stat info{};
  if (::fstat(pipe_fd, &info) == 0 && S_ISFIFO(info.st_mode)) ::fchmod(pipe_fd, 0666);
}

std::expected<Terminal, std::string> openTerminal(uid_t owner) {
  Terminal out;
  out.master = base::Fd(::open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  int unlock = 0;
  if (!out.master || ::ioctl(out.master.get(), TIOCSPTLCK, &unlock) != 0) {
    return std::unexpected(fmt::format("cannot open a terminal: {}", strerror(errno)));
  }
  out.slave = base::Fd(::ioctl(out.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!out.slave) {
    return std::unexpected(fmt::format("cannot open the terminal's end: {}", strerror(errno)));
  }
  (void)!::fchown(out.slave.get(), owner, static_cast<gid_t>(-1));
  return out;
}

Container::Container(event::Loop& loop, ContainerSpec spec)
    : loop_(loop), spec_(std::move(spec)), log_(kHostRoot + spec_.log_file) {}

std::expected<std::unique_ptr<Container>, StartFailure> Container::start(event::Loop& loop,
                                                                         ContainerSpec spec) {
  std::unique_ptr<Container> made(new Container(loop, std::move(spec)));
  Stdio stdio;
  base::Fd child_ends[3];
  if (made->spec_.terminal) {
    auto terminal = openTerminal(made->spec_.uid);
    if (!terminal) return std::unexpected(StartFailure{terminal.error()});
    child_ends[0] = std::move(terminal->slave);
    stdio = {child_ends[0].get(), child_ends[0].get(), child_ends[0].get(), true};
    made->watch(made->sources_[0], LogFile::Stream::kOut, std::move(terminal->master));
  } else {
    for (const int which : {0, 1}) {
      POSTERN_TRY(Pipe pipe, makePipe());
      child_ends[which + 1] = std::move(pipe.writer);
      made->watch(made->sources_[which], static_cast<LogFile::Stream>(which),
                  std::move(pipe.reader));
    }
    if (made->spec_.open_stdin) {
      POSTERN_TRY(Pipe pipe, makePipe());
      child_ends[0] = std::move(pipe.reader);
      made->input_ = std::move(pipe.writer);
    }
    stdio = {child_ends[0].get(), child_ends[1].get(), child_ends[2].get(), false};
  }
  auto pid = launch(made->spec_, stdio);
  if (!pid) return std::unexpected(pid.error());
  made->pid_ = *pid;
  made->mount_namespace_ = mountNamespaceOf(*pid);
  made->record_.id = made->spec_.id;
  made->record_.running = true;
  made->record_.started_ms = nowMs();
  return made;
}

void Container::watch(Source& source, LogFile::Stream stream, base::Fd fd) {
  setNonBlocking(fd.get());
  source.fd = std::move(fd);
  source.watch = event::FdWatch(loop_, source.fd.get(),
                                [this, &source, stream](std::uint32_t) { drain(source, stream); });
}

void Container::drain(Source& source, LogFile::Stream stream) {
  std::array<char, kOutputReadBytes> bytes;
  while (source.fd) {
    const ssize_t got = ::read(source.fd.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {  // a pty without processes says EIO
      if (spec_.terminal && record_.running) return;
      source.watch.reset();
      source.fd.reset();
      return;
    }
    const std::string_view text(bytes.data(), static_cast<std::size_t>(got));
    log_.write(stream, text);
    copyToAttached(stream, text);
  }
}

void Container::ended(int wait_status) {
  record_.running = false;
  record_.finished_ms = nowMs();
  record_.signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
  record_.exit_code = WIFSIGNALED(wait_status) ? 128 + record_.signal : WEXITSTATUS(wait_status);
  killMountNamespace(mount_namespace_);
  for (const int which : {0, 1}) {
    drain(sources_[which], static_cast<LogFile::Stream>(which));
    sources_[which].watch.reset();
    sources_[which].fd.reset();
  }
  input_.reset();
  log_.finish();
  attached_.clear();
}

void Container::attach(base::Fd output, base::Fd error) {
  auto made = std::make_unique<Attachment>();
  made->fd[0] = std::move(output);
  made->fd[1] = std::move(error);
  for (std::size_t which = 0; which < 2; ++which) {
    if (!made->fd[which]) continue;
    setNonBlocking(made->fd[which].get());
    made->watch[which] = event::FdWatch(
        loop_, made->fd[which].get(),
        [attachment = made.get(), which](std::uint32_t) { flush(*attachment, which); });
  }
  attached_.push_back(std::move(made));
}

void Container::copyToAttached(LogFile::Stream stream, std::string_view bytes) {
  const auto which = static_cast<std::size_t>(stream);
  std::erase_if(attached_, [&](const std::unique_ptr<Attachment>& attachment) {
    if (attachment->fd[which]) {
      attachment->waiting[which].append(bytes);
      if (!flush(*attachment, which)) {
        attachment->watch[which].reset();
        attachment->fd[which].reset();
      }
    }
    return !attachment->fd[0] && !attachment->fd[1];
  });
}

bool Container::flush(Attachment& attachment, std::size_t which) {
  base::Buffer& waiting = attachment.waiting[which];
  while (!waiting.empty()) {
    std::array<iovec, 16> pieces;
    const int count = waiting.peek(pieces.data(), static_cast<int>(pieces.size()));
    const ssize_t written = ::writev(attachment.fd[which].get(), pieces.data(), count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno == EAGAIN && waiting.size() <= kAttachmentBytesMax;
    waiting.drain(static_cast<std::size_t>(written));
  }
  return true;
}

base::Fd Container::takeInput() {
  if (spec_.stdin_once) return std::move(input_);
  return input_ ? base::Fd(::fcntl(input_.get(), F_DUPFD_CLOEXEC, 0)) : base::Fd();
}

base::Fd Container::terminal() const {
  if (!spec_.terminal || !sources_[0].fd) return {};
  return base::Fd(::fcntl(sources_[0].fd.get(), F_DUPFD_CLOEXEC, 0));
}

}  // namespace postern::runtime
