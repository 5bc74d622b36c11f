// Tells a person where load balancer addresses are really served on the host: what the relay
// reports (relay-status.json) becomes the annotation "postern.dev/host-ports" of the Service (a
// JSON object of port to host port, only where they differ) and an Event when a port could not be
// served as it stands. The file is watched on the loop; calls to the API run on a thread of their
// own.
#pragma once

#include "event/loop.h"
#include "kube/controller.h"
#include "network/file_watch.h"
#include "network/relay_table.h"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace postern::network {

inline constexpr const char* kHostPortsAnnotation = "postern.dev/host-ports";

class HostPorts {
 public:
  HostPorts(event::Loop& loop, kube::Client& client, std::string run_folder);
  ~HostPorts();

 private:
  using Outcomes = std::vector<RelayOutcome>;
  void read();
  kube::Outcome reconcile(const std::string& service);
  bool tell(const std::string& service, const json::Json& object, const Outcomes& outcomes);

  kube::Client& client_;
  const std::string run_folder_;
  std::mutex mutex_;
  std::map<std::string, Outcomes> by_service_;
  std::map<std::string, std::string> told_;  // the last Event's text, by service; worker only
  std::unique_ptr<kube::Controller> controller_;
  std::unique_ptr<FileWatch> watch_;
};

/// The annotation's value: "" when all ports are served as they stand.
std::string hostPortsAnnotation(const std::vector<RelayOutcome>& outcomes);
/// What to tell about a Service's ports: "" when all is well.
std::string hostPortsMessage(const std::vector<RelayOutcome>& outcomes);

}  // namespace postern::network
