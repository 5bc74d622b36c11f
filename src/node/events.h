// Events about pods, written by a thread of its own. The same event again counts up the first one.
// Any thread.
#pragma once

#include "kube/client.h"

#include <memory>
#include <string>
#include <string_view>

namespace postern::node {

class EventRecorder {
 public:
  static constexpr std::size_t kWaitingMax = 1000;  // more are dropped: they are only news
  virtual ~EventRecorder() = default;
  static std::unique_ptr<EventRecorder> start(kube::Client& client, std::string node_name);
  /// `container`: "" or the path "spec.containers{name}".
  virtual void record(const json::Json& pod, std::string_view type, std::string_view reason,
                      std::string message, std::string container = "") = 0;
};

}  // namespace postern::node
