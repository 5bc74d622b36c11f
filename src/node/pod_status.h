// The status of a pod from what its containers do. Pure.
#pragma once

#include "json/json.h"
#include "runtime/spec.h"

#include <optional>
#include <string>
#include <vector>

namespace postern::node {

/// One end of a container, as its status tells it.
struct Termination {
  int exit_code = 0;
  int signal = 0;
  std::string reason;  // "Completed", "Error", "StartError"
  std::string message;
  std::int64_t started_ms = 0;
  std::int64_t finished_ms = 0;
  std::string container_id;
};

struct ContainerView {
  std::string name;
  std::string image;
  std::string image_id;
  std::string container_id;
  bool init = false;
  bool sidecar = false;  // an init container that stays (restartPolicy: Always)
  enum class State : unsigned char { kWaiting, kRunning, kTerminated } state = State::kWaiting;
  std::string waiting_reason = "PodInitializing";
  std::string waiting_message;
  std::int64_t started_ms = 0;
  std::optional<Termination> ended;  // when terminated
  std::optional<Termination> last;   // the time before
  int restart_count = 0;
  bool started = false;  // running, and its startup probe passed
  bool ready = false;
};

struct PodView {
  std::vector<ContainerView> containers;  // init containers first
  bool sandbox_ready = false;
  std::string pod_ip;
  std::string host_ip;
  std::int64_t start_ms = 0;
  std::string phase_override;  // "Failed" whatever the containers say
  std::string reason;
  std::string message;
};

/// The new status; the times of conditions that did not change are taken from `before`.
json::Json podStatus(const json::Json& pod, const PodView& view, const json::Json& before,
                     std::int64_t now_ms);
/// Pending, Running, Succeeded or Failed.
std::string podPhase(const json::Json& pod, const PodView& view);
bool initialized(const PodView& view);

}  // namespace postern::node
