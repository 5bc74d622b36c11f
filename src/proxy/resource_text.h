// What /config_dump shows of a discovered resource. Plain values, main thread.
#pragma once

#include "base/clock.h"

#include <google/protobuf/any.pb.h>

#include <string>
#include <utility>
#include <vector>

namespace postern::proxy {

/// A resource as it came.
struct ResourceText {
  google::protobuf::Any message;
  std::string version;
  base::WallTime updated{};
};

/// The last refusal of a resource.
struct ResourceError {
  google::protobuf::Any message;
  std::string version;
  base::WallTime at{};
  std::string details;
};

/// The discovered resources of one type.
struct DynamicResources {
  std::string type_url;
  std::vector<std::pair<std::string, ResourceText>> resources;  // by name
};

}  // namespace postern::proxy
