// From a container of a pod's spec to what the runtime starts: image map, command, arguments,
// environment, user, capabilities, mounts. Pure but for what it is given to ask.
#pragma once

#include "json/json.h"
#include "node/image_map.h"
#include "node/pod_fields.h"
#include "runtime/spec.h"

#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace postern::node {

/// Why a container cannot be started now: `reason` of its waiting state.
struct ConfigFailure {
  std::string reason;
  std::string message;
};

struct ContainerContext {
  PodFacts facts;
  const ImageMap* images = nullptr;
  std::vector<std::shared_ptr<const json::Json>> services;  // of the cluster
  std::map<std::string, std::string> volumes;               // name → folder or file of the node
  std::string service_account_dir;  // mounted where the pod does not say otherwise; may be empty
  std::string termination_log;      // file that the container writes its last words to
  std::string log_file;
  std::string id;
  /// Null when there is none; an error when that is not known.
  using Lookup =
      std::function<std::expected<std::shared_ptr<const json::Json>, std::string>(std::string)>;
  Lookup config_map;
  Lookup secret;
};

std::expected<runtime::ContainerSpec, ConfigFailure> containerSpec(const json::Json& pod,
                                                                   const json::Json& container,
                                                                   const ContainerContext& context);

/// "$(NAME)" by the map, "$$" is "$"; a name that is not there stays as written.
std::string expandVariables(std::string_view text,
                            const std::map<std::string, std::string>& values);

/// The variables of Services for pods of a namespace.
std::map<std::string, std::string> serviceVariables(
    const std::vector<std::shared_ptr<const json::Json>>& services, const std::string& ns,
    bool links);

}  // namespace postern::node
