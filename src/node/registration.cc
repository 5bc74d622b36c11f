#include "node/registration.h"

#include "kube/controller.h"
#include "node/pod_fields.h"

#include <nlohmann/json.hpp>

#include <fstream>
#include <thread>

#include <sys/utsname.h>
#include <unistd.h>

namespace postern::node {
namespace {

using json::Json;
using kube::Outcome;
using kube::types::kNode;

constexpr std::chrono::seconds kHeartbeat{20};

std::string osImage() {
  std::ifstream file("/etc/os-release");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("PRETTY_NAME=")) continue;
    std::string name = line.substr(12);
    if (name.size() > 2 && name.front() == '"') name = name.substr(1, name.size() - 2);
    return name;
  }
  return "Linux";
}

std::string machineId() {
  std::string id;
  std::ifstream("/etc/machine-id") >> id;
  return id;
}

class RegistrationImpl final : public Registration {
 public:
  RegistrationImpl(kube::Client& client, std::string name, std::string ip, int pods_max)
      : client_(client), name_(std::move(name)), ip_(std::move(ip)), pods_max_(pods_max) {
    controller_ = kube::Controller::start("node", [this](const std::string&) { return beat(); });
    controller_->enqueue(name_);
  }

 private:
  Json status() const {
    utsname kernel{};
    ::uname(&kernel);
    const long long memory_kib =
        static_cast<long long>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE) / 1024;
    Json resources = {{"cpu", std::to_string(std::thread::hardware_concurrency())},
                      {"memory", std::to_string(memory_kib) + "Ki"},
                      {"pods", std::to_string(pods_max_)}};
    return {{"capacity", resources},
            {"allocatable", resources},
            {"addresses", Json::array({{{"type", "InternalIP"}, {"address", ip_}},
                                       {{"type", "Hostname"}, {"address", name_}}})},
            {"conditions", Json::array({{{"type", "Ready"},
                                         {"status", "True"},
                                         {"reason", "KubeletReady"},
                                         {"message", "the node agent runs pods"},
                                         {"lastHeartbeatTime", timeText(nowMs())},
                                         {"lastTransitionTime", timeText(started_ms_)}}})},
            {"nodeInfo",
             {{"machineID", machineId()},
              {"systemUUID", machineId()},
              {"bootID", ""},
              {"kernelVersion", kernel.release},
              {"osImage", osImage()},
              {"containerRuntimeVersion", "postern://0.1.0"},
              {"kubeletVersion", "v1.33.0+postern"},
              {"kubeProxyVersion", ""},
              {"operatingSystem", "linux"},
              {"architecture", "amd64"}}}};
  }

  Outcome beat() {
    kube::WriteOptions options;
    options.field_manager = "kubelet";
    options.subresource = "status";
    const Json patch{{"status", status()}};
    auto done = client_.patch(kNode, "", name_, kube::PatchType::kMerge, patch, options);
    if (done) return Outcome::later(kHeartbeat);
    if (!done.error().notFound()) return Outcome::retry();
    const Json labels = {{"kubernetes.io/hostname", name_},
                         {"kubernetes.io/os", "linux"},
                         {"kubernetes.io/arch", "amd64"}};
    options.subresource.clear();
    (void)client_.create(kNode, "",
                         Json{{"apiVersion", "v1"},
                              {"kind", "Node"},
                              {"metadata", {{"name", name_}, {"labels", labels}}},
                              {"spec", Json::object()},
                              {"status", status()}},
                         options);
    return Outcome::retry();
  }

  kube::Client& client_;
  const std::string name_;
  const std::string ip_;
  const int pods_max_;
  const std::int64_t started_ms_ = nowMs();
  std::unique_ptr<kube::Controller> controller_;
};

}  // namespace

std::unique_ptr<Registration> Registration::start(kube::Client& client, std::string node_name,
                                                  std::string node_ip, int pods_max) {
  return std::make_unique<RegistrationImpl>(client, std::move(node_name), std::move(node_ip),
                                            pods_max);
}

}  // namespace postern::node
