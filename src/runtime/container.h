// One container as pid 1 of its pod sees it: the first process, its standard streams, its log, who
// is attached. Loop thread of the shim.
#pragma once

#include "base/buffer.h"
#include "base/fd.h"
#include "event/loop.h"
#include "runtime/log_file.h"
#include "runtime/process.h"
#include "runtime/spec.h"

#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postern::runtime {

/// A pty of the pod: our end and the process's.
struct Terminal {
  base::Fd master;
  base::Fd slave;
};
std::expected<Terminal, std::string> openTerminal(uid_t owner);

/// Lets every user of the pod open the pipe by /dev/stdout and the like.
void openToAll(int pipe_fd);

class Container {
 public:
  static constexpr std::size_t kAttachmentBytesMax = 1024 * 1024;  // a slower reader is let go

  static std::expected<std::unique_ptr<Container>, StartFailure> start(event::Loop& loop,
                                                                       ContainerSpec spec);
  const ContainerRecord& record() const { return record_; }
  const ContainerSpec& spec() const { return spec_; }
  pid_t pid() const { return pid_; }

  /// Its first process ended with this wait status: ends the rest of it and finishes the log.
  void ended(int wait_status);
  /// Copies output to these from now on (an empty one gets none).
  void attach(base::Fd output, base::Fd error);
  /// A descriptor to write its standard input by; empty when it has none.
  base::Fd takeInput();
  /// A duplicate of the terminal's master; empty without a terminal.
  base::Fd terminal() const;

 private:
  struct Attachment {
    base::Fd fd[2];
    base::Buffer waiting[2];
    event::FdWatch watch[2];
  };
  struct Source {
    base::Fd fd;
    event::FdWatch watch;
  };

  Container(event::Loop& loop, ContainerSpec spec);
  void watch(Source& source, LogFile::Stream stream, base::Fd fd);
  void drain(Source& source, LogFile::Stream stream);
  void copyToAttached(LogFile::Stream stream, std::string_view bytes);
  static bool flush(Attachment& attachment, std::size_t which);

  event::Loop& loop_;
  ContainerSpec spec_;
  ContainerRecord record_;
  pid_t pid_ = 0;
  ino_t mount_namespace_ = 0;
  LogFile log_;
  Source sources_[2];
  base::Fd input_;
  std::vector<std::unique_ptr<Attachment>> attached_;
};

}  // namespace postern::runtime
