// The process that keeps the cluster's processes running: it starts them in order, restarts what
// ends, adopts what an earlier supervisor left running, rotates their logs, and ends all of them on
// SIGTERM. It holds the API server's listening socket, so that connections wait while the API
// server restarts. One thread; never talks to Kubernetes.
#pragma once

#include "cluster/data_folder.h"

#include <chrono>
#include <cstdint>
#include <string>

namespace postern::cluster {

/// A process that lived at least this long is started again at once; below it the pauses double.
inline constexpr std::chrono::seconds kHealthyLife{5};
inline constexpr std::chrono::milliseconds kRestartPauseMin{100};
inline constexpr std::chrono::milliseconds kRestartPauseMax{10'000};
/// A log is moved to NAME.log.1 (and that to .2) when it grows past this.
inline constexpr std::uint64_t kLogBytesMax = 10ULL << 20;

/// Runs until SIGTERM or until the first start fails. Lines go to `report_fd` until all is ready:
/// "ready NAME", then "up", or "error TEXT". Returns the exit status.
int runSupervisor(const DataFolder& folder, int report_fd);

/// One round of log rotation in a folder.
void rotateLogs(const std::string& folder, std::uint64_t bytes_max);

}  // namespace postern::cluster
