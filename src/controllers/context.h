// What the controllers share: the client, one informer per type, and small builders of the parts
// every Kubernetes object has. Internal to controllers/. Any thread.
#pragma once

#include "base/log.h"
#include "controllers/manager.h"
#include "kube/controller.h"

#include <nlohmann/json.hpp>

#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace postern::controllers {

using json::Json;
inline base::LogComponent kLog("controllers");

class Context {
 public:
  Context(kube::Client& client_in, Options options_in)
      : client(client_in), options(std::move(options_in)) {}
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  /// The one informer of this type, started at the first call.
  kube::Informer& informer(const kube::ResourceType& type);
  /// Records an Event about an object; failures are only logged.
  void record(const Json& object, std::string_view component, std::string_view type,
              std::string_view reason, std::string_view message);

  /// Keeps an object that informers' handlers refer to until no informer is left.
  void keep(std::shared_ptr<void> object) { kept_.push_back(std::move(object)); }

  kube::Client& client;
  const Options options;

 private:
  std::mutex mutex_;
  // In order of creation and destroyed backwards: handlers may read informers made earlier.
  std::vector<std::unique_ptr<kube::Informer>> informers_;
  unsigned long long events_ = 0;
  std::vector<std::shared_ptr<void>> kept_;
};

using ControllerPtr = std::unique_ptr<kube::Controller>;
void startWorkloads(Context& context, std::vector<ControllerPtr>& out);          // workloads.cc
void startDeployments(Context& context, std::vector<ControllerPtr>& out);        // deployment.cc
void startPods(Context& context, std::vector<ControllerPtr>& out);               // pods.cc
void startServices(Context& context, std::vector<ControllerPtr>& out);           // services.cc
void startEndpoints(Context& context, std::vector<ControllerPtr>& out);          // endpoints.cc
void startNamespaces(Context& context, std::vector<ControllerPtr>& out);         // namespaces.cc
void startAutoscalers(Context& context, std::vector<ControllerPtr>& out);        // autoscaling.cc
void startDisruptionBudgets(Context& context, std::vector<ControllerPtr>& out);  // disruption.cc
void startGarbageCollector(Context& context, std::vector<ControllerPtr>& out);   // garbage.cc

/// RFC 3339 in UTC with seconds, as metav1.Time.
std::string timeText(std::time_t at);
std::string nowText();
/// Nothing readable gives 0.
std::time_t parseTime(const std::string& text);

/// A key of a map at a dotted path, where the key may itself have dots (labels, annotations).
std::string entryAt(const Json& object, std::string_view path, const std::string& key);
/// The object at a path, or an empty one.
const Json& objectAt(const Json& object, std::string_view path);
/// The array at a path, or an empty one.
const Json& arrayAt(const Json& object, std::string_view path);

bool deleting(const Json& object);
Json ownerReference(const Json& owner, const kube::ResourceType& type);
/// The controlling owner's uid, "" without.
std::string controllerUid(const Json& object);
/// metav1.LabelSelector (or null) against labels; an empty selector matches all, null none.
bool selectorMatches(const Json* selector, const Json& labels);
/// A plain map selector (Service); an empty one matches nothing.
bool mapMatches(const Json& selector, const Json& labels);

/// A condition of this type in an array; null if absent.
const Json* findCondition(const Json& conditions, std::string_view type);
/// Sets a condition; lastTransitionTime moves only when the status does. True if anything changed.
bool setCondition(Json& conditions, const std::string& type, bool status, const std::string& reason,
                  const std::string& message);
bool podReady(const Json& pod);
bool podFinished(const Json& pod);
/// Ready for at least this long.
bool podAvailable(const Json& pod, long long min_ready_seconds, std::time_t now);
/// A fixed number or a percentage of `total`.
long long resolvePercent(const Json* value, long long total, bool round_up, long long fallback);

/// Logs and turns a failed call into a retry; a conflict or absence is no news.
kube::Outcome retryAfter(std::string_view what, const std::string& key,
                         const kube::ApiError& error);
/// Writes status when it differs from what is there.
kube::ApiResult<void> writeStatus(Context& context, const kube::ResourceType& type,
                                  const Json& object, Json status);

}  // namespace postern::controllers
