#include "network/host_ports.h"

#include "base/log.h"

#include <fmt/chrono.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <ctime>

namespace postern::network {
namespace {

using json::Json;

base::LogComponent host_ports_log("host-ports");

std::string nowText() {
  const std::time_t now = std::time(nullptr);
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
}

}  // namespace

std::string hostPortsAnnotation(const std::vector<RelayOutcome>& outcomes) {
  Json out = Json::object();
  for (const RelayOutcome& outcome : outcomes) {
    if (outcome.host_port != outcome.port) out[std::to_string(outcome.port)] = outcome.host_port;
  }
  return out.empty() ? "" : json::dump(out);
}

std::string hostPortsMessage(const std::vector<RelayOutcome>& outcomes) {
  std::string out;
  for (const RelayOutcome& outcome : outcomes) {
    if (outcome.error.empty()) continue;
    if (!out.empty()) out += "; ";
    out += outcome.error;
  }
  return out;
}

HostPorts::HostPorts(event::Loop& loop, kube::Client& client, std::string run_folder)
    : client_(client), run_folder_(std::move(run_folder)) {
  controller_ = kube::Controller::start(
      "host-ports", [this](const std::string& service) { return reconcile(service); });
  auto watch = FileWatch::start(loop, run_folder_, kRelayStatusFile, [this] { read(); });
  if (watch) {
    watch_ = std::move(*watch);
  } else {
    host_ports_log.error("{}: {}", run_folder_, watch.error().message());
  }
}

HostPorts::~HostPorts() {
  watch_.reset();
  controller_.reset();
}

void HostPorts::read() {
  const auto text = readWholeFile(run_folder_ + "/" + kRelayStatusFile);
  if (!text) return;  // no relay yet
  const auto outcomes = parseRelayStatus(*text);
  if (!outcomes) {
    host_ports_log.error("{}: {}", kRelayStatusFile, outcomes.error().message());
    return;
  }
  std::map<std::string, Outcomes> fresh;
  for (const RelayOutcome& outcome : *outcomes) fresh[outcome.service].push_back(outcome);
  const std::lock_guard lock(mutex_);
  by_service_.swap(fresh);
  for (const auto& [service, now] : by_service_) {
    const auto before = fresh.find(service);
    if (before == fresh.end() || before->second != now) controller_->enqueue(service);
  }
}

kube::Outcome HostPorts::reconcile(const std::string& service) {
  Outcomes outcomes;
  {
    const std::lock_guard lock(mutex_);
    const auto at = by_service_.find(service);
    if (at == by_service_.end()) return kube::Outcome::done();
    outcomes = at->second;
  }
  const kube::ObjectKey key = kube::splitKey(service);
  const auto object = client_.get(kube::types::kService, key.ns, key.name);
  if (!object) return object.error().notFound() ? kube::Outcome::done() : kube::Outcome::retry();

  const Json* annotations = json::find(*object, "metadata.annotations");
  const std::string wanted = hostPortsAnnotation(outcomes);
  std::string present;
  if (annotations != nullptr && annotations->is_object()) {
    const auto at = annotations->find(kHostPortsAnnotation);
    if (at != annotations->end() && at->is_string()) present = at->get<std::string>();
  }
  if (present != wanted) {
    const Json value = wanted.empty() ? Json() : Json(wanted);
    const Json patch = {{"metadata", {{"annotations", {{kHostPortsAnnotation, value}}}}}};
    const auto done =
        client_.patch(kube::types::kService, key.ns, key.name, kube::PatchType::kMerge, patch);
    if (!done && !done.error().notFound()) return kube::Outcome::retry();
  }
  return tell(service, *object, outcomes) ? kube::Outcome::done() : kube::Outcome::retry();
}

bool HostPorts::tell(const std::string& service, const Json& object, const Outcomes& outcomes) {
  const std::string text = hostPortsMessage(outcomes);
  if (text == told_[service]) return true;
  if (!text.empty()) {
    const kube::ObjectKey key = kube::splitKey(service);
    const bool served = std::all_of(outcomes.begin(), outcomes.end(),
                                    [](const auto& outcome) { return outcome.host_port != 0; });
    const std::string now = nowText();
    const Json event = {{"metadata", {{"generateName", key.name + "."}, {"namespace", key.ns}}},
                        {"involvedObject",
                         {{"apiVersion", "v1"},
                          {"kind", "Service"},
                          {"namespace", key.ns},
                          {"name", key.name},
                          {"uid", json::stringAt(object, "metadata.uid")}}},
                        {"reason", served ? "HostPortMoved" : "HostPortUnavailable"},
                        {"message", text},
                        {"type", served ? "Normal" : "Warning"},
                        {"source", {{"component", "postern-relay"}}},
                        {"firstTimestamp", now},
                        {"lastTimestamp", now},
                        {"count", 1}};
    const auto made = client_.create(kube::types::kEvent, key.ns, event);
    if (!made) {
      host_ports_log.warning("event for service {}: {}", service, made.error().message);
      if (made.error().code == 0) return false;
    }
  }
  told_[service] = text;
  return true;
}

}  // namespace postern::network
