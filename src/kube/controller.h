// Level-triggered reconciling: informers enqueue keys, workers call reconcile(key) until it
// succeeds. A key is never reconciled by two workers at once; keys added while it runs are
// coalesced into one more run.
#pragma once

#include "kube/informer.h"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace postern::kube {

/// What reconcile wants next.
struct Outcome {
  enum class What : unsigned char {
    kDone,
    kRetry /* with back-off 5 ms × 2^n, at most 60 s */,
    kAfter
  } what = What::kDone;
  std::chrono::milliseconds after{0};
  static Outcome done() { return {}; }
  static Outcome retry() { return {What::kRetry, {}}; }
  static Outcome later(std::chrono::milliseconds t) { return {What::kAfter, t}; }
};

class Controller {
 public:
  using Reconcile = std::function<Outcome(const std::string& key)>;
  virtual ~Controller() = default;  // stops the workers
  static std::unique_ptr<Controller> start(std::string name, Reconcile reconcile, int workers = 1);
  virtual void enqueue(std::string key) = 0;  // any thread
  virtual void enqueueAfter(std::string key, std::chrono::milliseconds after) = 0;

  /// Enqueues from informers' handlers, which may outlive the controller: then it does nothing.
  using Sink = std::function<void(std::string key)>;
  virtual Sink sink() = 0;

  /// Enqueues each changed object's own key.
  void watch(Informer& informer);
  /// Enqueues the key of the controlling owner of this kind (metadata.ownerReferences, controller:
  /// true).
  void watchOwned(Informer& informer, const ResourceType& owner);
  /// Enqueues what the function names.
  void watchMapped(Informer& informer,
                   std::function<std::vector<std::string>(const json::Json&)> keys);
};

}  // namespace postern::kube
