// Probes of a container: startup, readiness, liveness, by HTTP, TCP or a program. Loop thread.
#pragma once

#include "base/function.h"
#include "event/loop.h"
#include "http/client.h"
#include "json/json.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace postern::node {

/// How probes reach the container.
class ProbeHost {
 public:
  virtual ~ProbeHost() = default;
  virtual std::string probeAddress() = 0;  // the pod's IP
  virtual int probeNamespace() = 0;        // where it is reached from; -1: from the node
  /// Runs a program in the container and tells its exit code (-1: not run) and output.
  using ExecDone = base::Function<void(int code, std::string output)>;
  virtual void probeExec(const std::string& container, std::vector<std::string> argv,
                         ExecDone done) = 0;
};

/// One check by a probe's or hook's action {httpGet, tcpSocket, exec}; destroying it cancels.
class Check {
 public:
  using Done = base::Function<void(bool good, std::string text)>;
  virtual ~Check() = default;
  static std::unique_ptr<Check> start(event::Loop& loop, ProbeHost& host,
                                      const json::Json& container, const json::Json& action,
                                      base::Duration timeout, Done done);
};

class Probe {
 public:
  struct Callbacks {
    base::Function<void(bool good)> on_change;       // the verdict, after the thresholds
    base::Function<void(std::string text)> on_fail;  // each failed check
  };
  /// `eager`: until the first success checks come faster than the period says, for a quick start.
  /// `good`: the verdict before the first check.
  Probe(event::Loop& loop, ProbeHost& host, const json::Json& container, const json::Json& spec,
        bool eager, bool good, Callbacks callbacks);

 private:
  void check();
  void onResult(bool good, const std::string& text);

  event::Loop& loop_;
  ProbeHost& host_;
  std::string container_;  // JSON texts: the probe outlives the pod object it came from
  std::string action_;
  Callbacks callbacks_;
  base::Duration period_;
  base::Duration timeout_;
  int success_threshold_;
  int failure_threshold_;
  bool eager_;
  bool good_;
  int successes_ = 0;
  int failures_ = 0;
  base::MonotonicTime last_counted_{};
  std::shared_ptr<void> alive_ = std::make_shared<char>();
  std::unique_ptr<Check> check_;
  event::Timer timer_;
};

}  // namespace postern::node
