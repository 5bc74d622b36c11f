// The monitoring port of the control plane: /ready for probes, /metrics (Prometheus text), and
// /debug/{syncz, config_dump?proxyID=, registryz}, which only callers on the own host (kubectl
// port-forward) may read. One loop.
#pragma once

#include "discovery/xds_source.h"
#include "event/loop.h"
#include "http/server.h"

#include <functional>
#include <memory>

namespace postern::control {

/// Answers one request; pure, for tests.
struct MonitoringAnswer {
  int status = 200;
  std::string content_type;
  std::string body;
};
MonitoringAnswer answerMonitoring(const http::Request& request, const discovery::XdsSource& source,
                                  bool ready);

class Monitoring {
 public:
  virtual ~Monitoring() = default;
  static std::unique_ptr<Monitoring> start(event::Loop& loop, base::Fd listener,
                                           const discovery::XdsSource& source,
                                           std::function<bool()> ready);
};

}  // namespace postern::control
