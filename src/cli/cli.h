// The command line of `postern`: parses arguments, runs one command, returns the exit status. Call
// from main, before any thread exists.
#pragma once

namespace postern::cli {

/// Exit statuses, part of the interface (docs/reference/postern.md).
enum Exit : int {
  kExitOk = 0,
  kExitFailed = 1,
  kExitUsage = 2,
  kExitNotRunning = 3,  // status: the cluster does not run, or not all of it
  kExitInterrupted = 130,
};

int run(int argc, char** argv);

}  // namespace postern::cli
