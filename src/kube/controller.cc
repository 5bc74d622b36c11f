#include "kube/controller.h"

#include "base/log.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace postern::kube {
namespace {

using Time = std::chrono::steady_clock::time_point;

base::LogComponent kControllerLog("controller");

constexpr std::chrono::milliseconds kRequeueFirst{5};
constexpr std::chrono::milliseconds kRequeueMax{60'000};

/// What is due when. Shared with the informers' handlers, which may outlive the controller.
struct Queue {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, Time> due;
  bool stopping = false;

  void add(std::string key, Time at) {
    {
      std::lock_guard lock(mutex);
      auto [it, added] = due.emplace(std::move(key), at);
      if (!added) it->second = std::min(it->second, at);
    }
    changed.notify_one();
  }
};

class ControllerImpl final : public Controller {
 public:
  ControllerImpl(std::string name, Reconcile reconcile, int workers)
      : name_(std::move(name)), reconcile_(std::move(reconcile)) {
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  }
  ~ControllerImpl() override {
    {
      std::lock_guard lock(queue_->mutex);
      queue_->stopping = true;
    }
    queue_->changed.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  void enqueue(std::string key) override {
    queue_->add(std::move(key), std::chrono::steady_clock::now());
  }
  void enqueueAfter(std::string key, std::chrono::milliseconds after) override {
    queue_->add(std::move(key), std::chrono::steady_clock::now() + after);
  }
  Sink sink() override {
    return [queue = queue_](std::string key) {
      queue->add(std::move(key), std::chrono::steady_clock::now());
    };
  }

 private:
  /// The key to work on now, or nothing and the time to wait until.
  bool take(std::string& key, Time& wake) {
    Time now = std::chrono::steady_clock::now();
    wake = now + std::chrono::hours(1);
    auto best = queue_->due.end();
    for (auto it = queue_->due.begin(); it != queue_->due.end(); ++it) {
      if (running_.contains(it->first)) continue;  // one more run follows when it is done
      if (it->second <= now && (best == queue_->due.end() || it->second < best->second)) best = it;
      wake = std::min(wake, it->second);
    }
    if (best == queue_->due.end()) return false;
    key = best->first;
    queue_->due.erase(best);
    running_.insert(key);
    return true;
  }

  void work() {
    std::unique_lock lock(queue_->mutex);
    while (!queue_->stopping) {
      std::string key;
      Time wake;
      if (!take(key, wake)) {
        queue_->changed.wait_until(lock, wake);
        continue;
      }
      lock.unlock();
      Outcome outcome = reconcile_(key);
      lock.lock();
      running_.erase(key);
      settle(key, outcome);
      queue_->changed.notify_one();
    }
  }

  void settle(const std::string& key, const Outcome& outcome) {
    std::chrono::milliseconds after = outcome.after;
    if (outcome.what == Outcome::What::kDone) {
      failures_.erase(key);
      return;
    }
    if (outcome.what == Outcome::What::kRetry) {
      int failures = failures_[key]++;
      after = std::min(kRequeueMax,
                       std::chrono::milliseconds(kRequeueFirst.count() << std::min(failures, 20)));
      kControllerLog.debug("{}: {} again in {} ms", name_, key, after.count());
    } else {
      failures_.erase(key);
    }
    Time due = std::chrono::steady_clock::now() + after;
    auto [it, added] = queue_->due.emplace(key, due);
    if (!added) it->second = std::min(it->second, due);
  }

  std::string name_;
  Reconcile reconcile_;
  std::shared_ptr<Queue> queue_ = std::make_shared<Queue>();
  std::set<std::string> running_;
  std::map<std::string, int> failures_;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Controller> Controller::start(std::string name, Reconcile reconcile, int workers) {
  return std::make_unique<ControllerImpl>(std::move(name), std::move(reconcile), workers);
}

void Controller::watch(Informer& informer) {
  informer.addHandler([add = sink()](const InformerEvent& event) { add(keyOf(*event.object)); });
}

void Controller::watchOwned(Informer& informer, const ResourceType& owner) {
  informer.addHandler([add = sink(), owner](const InformerEvent& event) {
    const json::Json* owners = json::find(*event.object, "metadata.ownerReferences");
    if (owners == nullptr || !owners->is_array()) return;
    for (const json::Json& each : *owners) {
      if (!json::boolAt(each, "controller") || json::stringAt(each, "kind") != owner.kind) continue;
      std::string ns = owner.namespaced ? json::stringAt(*event.object, "metadata.namespace") : "";
      std::string name = json::stringAt(each, "name");
      add(ns.empty() ? name : ns + "/" + name);
    }
  });
}

void Controller::watchMapped(Informer& informer,
                             std::function<std::vector<std::string>(const json::Json&)> keys) {
  informer.addHandler([add = sink(), keys = std::move(keys)](const InformerEvent& event) {
    for (std::string& key : keys(*event.object)) add(std::move(key));
  });
}

}  // namespace postern::kube
