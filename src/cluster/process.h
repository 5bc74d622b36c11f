// A process known by pid and start time, so that a pid used again is never mistaken for it; what is
// remembered of it in <run>/NAME.process survives the supervisor. Any thread.
#pragma once

#include "base/error.h"
#include "base/fd.h"

#include <chrono>
#include <cstdint>
#include <string>

#include <sys/types.h>

namespace postern::cluster {

struct ProcessRecord {
  std::string name;
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;  // field 22 of /proc/PID/stat
  std::string version;            // of the program that started it

  /// The running process `pid`, as it is now.
  static base::ConfigResult<ProcessRecord> of(std::string name, pid_t pid);
  static base::ConfigResult<ProcessRecord> read(const std::string& path);
  base::ConfigResult<void> write(const std::string& path) const;

  /// A descriptor that becomes readable when it ends; empty when this process is gone.
  base::Fd open() const;
  bool alive() const { return static_cast<bool>(open()); }
};

/// Signals the process behind a descriptor.
bool signalProcess(const base::Fd& pidfd, int signal);
/// Waits for its end (reaps it if it is a child). False when the time is over.
bool awaitEnd(const base::Fd& pidfd, std::chrono::milliseconds timeout);
/// SIGTERM, and SIGKILL after `patience`.
void endProcess(const base::Fd& pidfd, std::chrono::milliseconds patience);

}  // namespace postern::cluster
