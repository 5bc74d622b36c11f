#include "node/events.h"

#include "node/pod_fields.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

namespace postern::node {
namespace {

using json::Json;

constexpr std::size_t kRememberedMax = 4096;

class Recorder final : public EventRecorder {
 public:
  Recorder(kube::Client& client, std::string node_name)
      : client_(client), node_name_(std::move(node_name)), thread_([this] { run(); }) {}
  ~Recorder() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void record(const Json& pod, std::string_view type, std::string_view reason, std::string message,
              std::string container) override {
    const std::string ns = json::stringAt(pod, "metadata.namespace");
    const std::string name = json::stringAt(pod, "metadata.name");
    const std::string uid = json::stringAt(pod, "metadata.uid");
    const std::string now = timeText(nowMs());
    Json involved{
        {"apiVersion", "v1"}, {"kind", "Pod"}, {"namespace", ns}, {"name", name}, {"uid", uid}};
    if (!container.empty()) involved["fieldPath"] = container;
    Json event{{"apiVersion", "v1"},
               {"kind", "Event"},
               {"metadata", {{"namespace", ns}}},
               {"involvedObject", std::move(involved)},
               {"reason", reason},
               {"message", message},
               {"type", type},
               {"count", 1},
               {"firstTimestamp", now},
               {"lastTimestamp", now},
               {"reportingComponent", "kubelet"},
               {"reportingInstance", node_name_},
               {"source", {{"component", "kubelet"}, {"host", node_name_}}}};
    {
      std::lock_guard lock(mutex_);
      if (waiting_.size() >= kWaitingMax) return;
      waiting_.push_back(
          {fmt::format("{}/{}/{}/{}", uid, container, reason, message), name, std::move(event)});
    }
    wake_.notify_one();
  }

 private:
  struct Waiting {
    std::string key;
    std::string pod;
    Json event;
  };
  struct Written {
    std::string name;
    long long count = 1;
  };

  void run() {
    while (true) {
      Waiting next;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
        if (stopping_) return;
        next = std::move(waiting_.front());
        waiting_.pop_front();
      }
      write(std::move(next));
    }
  }

  void write(Waiting next) {
    const std::string ns = json::stringAt(next.event, "metadata.namespace");
    const auto known = written_.find(next.key);
    if (known != written_.end()) {
      const Json patch{{"count", known->second.count + 1},
                       {"lastTimestamp", next.event["lastTimestamp"]}};
      if (client_.patch(kube::types::kEvent, ns, known->second.name, kube::PatchType::kMerge,
                        patch)) {
        ++known->second.count;
        return;
      }
    }
    const auto ticks = std::chrono::system_clock::now().time_since_epoch().count();
    const std::string name = fmt::format("{}.{:x}", next.pod, ticks + ++number_);
    next.event["metadata"]["name"] = name;
    if (!client_.create(kube::types::kEvent, ns, next.event)) return;
    if (written_.size() >= kRememberedMax) written_.clear();
    written_[next.key] = {name, 1};
  }

  kube::Client& client_;
  std::string node_name_;
  std::map<std::string, Written> written_;  // of the thread
  long long number_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;        // guarded by mutex_
  std::deque<Waiting> waiting_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace

std::unique_ptr<EventRecorder> EventRecorder::start(kube::Client& client, std::string node_name) {
  return std::make_unique<Recorder>(client, std::move(node_name));
}

}  // namespace postern::node
