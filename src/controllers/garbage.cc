// Garbage collection over every kind the API serves, custom ones included: objects whose owners are
// all gone are deleted, foreground deletion waits for dependents that block it, orphaning lets them
// go.
#include "controllers/context.h"
#include "controllers/object_graph.h"

#include <algorithm>
#include <set>

namespace postern::controllers {
namespace {

using kube::ApiError;
using kube::Outcome;

constexpr const char* kDiscover = "discover";  // the key that looks for kinds
constexpr std::chrono::seconds kDiscoverAgain{30};
constexpr std::chrono::milliseconds kDiscoverSoon{20};
// High-volume kinds without dependents or owners worth following.
constexpr const char* kIgnored[] = {"events", "leases", "componentstatuses"};

class Collector {
 public:
  explicit Collector(Context& context) : context_(context) {}

  void start(kube::Controller& controller) {
    sink_ = controller.sink();
    context_.informer(kube::types::kCrd).addHandler([sink = sink_](const kube::InformerEvent&) {
      sink(kDiscover);
    });
    controller.enqueue(kDiscover);
  }

  /// A uid, or kDiscover.
  Outcome reconcile(const std::string& key) {
    if (key == kDiscover) return discover();
    std::optional<GraphNode> node = find(key);
    if (!node) return Outcome::done();
    if (node->deleting && node->releases_dependents) return orphan(key, *node);
    if (node->deleting && node->waits_for_dependents) return deleteDependents(key, *node);
    if (node->deleting || node->owners.empty()) return Outcome::done();
    return collect(key, *node);
  }

 private:
  std::optional<GraphNode> find(const std::string& uid) {
    std::lock_guard lock(mutex_);
    const GraphNode* node = graph_.find(uid);
    return node == nullptr ? std::nullopt : std::optional(*node);
  }
  std::vector<std::string> dependents(const std::string& uid) {
    std::lock_guard lock(mutex_);
    return graph_.dependents(uid);
  }

  /// Follows the kinds that are new and forgets those that are gone.
  Outcome discover() {
    auto served = servedTypes();
    if (!served) return retryAfter("garbage collector", kDiscover, served.error());
    std::vector<kube::ResourceType> gone;
    for (const auto& type : followed_) {
      if (std::find(served->begin(), served->end(), type) == served->end()) gone.push_back(type);
    }
    for (const auto& type : gone) {
      std::erase(followed_, type);
      std::lock_guard lock(mutex_);
      for (const std::string& uid : graph_.ofType(type)) graph_.remove(uid);
    }
    for (const auto& type : *served) {
      if (std::find(followed_.begin(), followed_.end(), type) != followed_.end()) continue;
      followed_.push_back(type);
      if (std::find(watched_.begin(), watched_.end(), type) == watched_.end()) follow(type);
      watched_.push_back(type);
    }
    return Outcome::later(kDiscoverAgain);
  }

  kube::ApiResult<std::vector<kube::ResourceType>> servedTypes() {
    std::vector<kube::ResourceType> out;
    POSTERN_TRY_VOID(addTypes("/api/v1", "", "v1", out));
    auto groups = context_.client.raw("GET", "/apis");
    if (!groups) return std::unexpected(groups.error());
    for (const Json& group : arrayAt(*groups, "groups")) {
      const std::string version = json::stringAt(group, "preferredVersion.version");
      const std::string name = json::stringAt(group, "name");
      POSTERN_TRY_VOID(addTypes("/apis/" + name + "/" + version, name, version, out));
    }
    return out;
  }

  kube::ApiResult<void> addTypes(const std::string& base, const std::string& group,
                                 const std::string& version, std::vector<kube::ResourceType>& out) {
    auto list = context_.client.raw("GET", base);
    if (!list) return std::unexpected(list.error());
    for (const Json& resource : arrayAt(*list, "resources")) {
      const std::string name = json::stringAt(resource, "name");
      const Json& verbs = arrayAt(resource, "verbs");
      auto can = [&](const char* verb) {
        return std::find(verbs.begin(), verbs.end(), verb) != verbs.end();
      };
      if (name.find('/') != std::string::npos || !can("list") || !can("watch") || !can("delete"))
        continue;
      if (std::find(std::begin(kIgnored), std::end(kIgnored), name) != std::end(kIgnored)) continue;
      out.push_back({group, version, name, json::stringAt(resource, "kind"),
                     json::boolAt(resource, "namespaced")});
    }
    return {};
  }

  void follow(const kube::ResourceType& type) {
    context_.informer(type).addHandler([this, type](const kube::InformerEvent& event) {
      const std::string uid = json::stringAt(*event.object, "metadata.uid");
      std::vector<std::string> touched{uid};
      {
        std::lock_guard lock(mutex_);
        if (event.type == kube::InformerEvent::Type::kDeleted) {
          // Owners that wait for this one look again, and what it owned is examined.
          if (const GraphNode* node = graph_.find(uid); node != nullptr) {
            for (const OwnerReference& owner : node->owners) touched.push_back(owner.uid);
          }
          for (std::string& each : graph_.remove(uid)) touched.push_back(std::move(each));
        } else {
          graph_.put(type, *event.object);
          // A new dependent of something that is being deleted in the foreground goes too.
          if (const GraphNode* node = graph_.find(uid); node != nullptr) {
            for (const OwnerReference& owner : node->owners) touched.push_back(owner.uid);
          }
        }
      }
      for (std::string& each : touched) sink_(std::move(each));
    });
  }

  /// Whether the owner is there: by the graph, else by asking the API. Nothing on a failure to ask.
  kube::ApiResult<bool> exists(const OwnerReference& owner, const std::string& ns) {
    if (find(owner.uid)) return true;
    for (const auto& type : followed_) {
      if (type.kind != owner.kind || groupOf(type.apiVersion()) != groupOf(owner.api_version))
        continue;
      auto live = context_.client.get(type, type.namespaced ? ns : "", owner.name);
      if (!live && !live.error().notFound()) return std::unexpected(live.error());
      return live && json::stringAt(*live, "metadata.uid") == owner.uid;
    }
    // A kind nobody serves (yet): its objects cannot be said to be gone.
    return true;
  }

  static std::string groupOf(const std::string& api_version) {
    const std::size_t slash = api_version.find('/');
    return slash == std::string::npos ? "" : api_version.substr(0, slash);
  }

  Outcome collect(const std::string& uid, const GraphNode& node) {
    std::vector<std::string> gone;
    for (const OwnerReference& owner : node.owners) {
      auto there = exists(owner, node.ns);
      if (!there) return retryAfter("garbage collector", node.name, there.error());
      if (!*there) gone.push_back(owner.uid);
    }
    if (gone.empty()) return Outcome::done();
    if (gone.size() < node.owners.size()) return dropOwners(uid, node, gone);
    kLog.info("deleting {} {}/{}: its owners are gone", node.type.kind, node.ns, node.name);
    return remove(uid, node, "Background");
  }

  Outcome remove(const std::string& uid, const GraphNode& node, const char* propagation) {
    kube::DeleteOptions options;
    options.propagation = propagation;
    options.uid = uid;
    auto done = context_.client.remove(node.type, node.ns, node.name, options);
    if (!done && !done.error().notFound() && !done.error().conflict())
      return retryAfter("garbage collector", node.name, done.error());
    return Outcome::done();
  }

  /// Reads the object again and writes what `change` makes of it; a conflict is tried again.
  template <class F>
  Outcome rewrite(const std::string& uid, const GraphNode& node, F change) {
    auto live = context_.client.get(node.type, node.ns, node.name);
    if (!live) {
      return live.error().notFound() ? Outcome::done()
                                     : retryAfter("garbage collector", node.name, live.error());
    }
    if (json::stringAt(*live, "metadata.uid") != uid) return Outcome::done();
    Json patch = {
        {"metadata",
         {{"resourceVersion", json::stringAt(*live, "metadata.resourceVersion")}, {"uid", uid}}}};
    change(*live, patch["metadata"]);
    auto done =
        context_.client.patch(node.type, node.ns, node.name, kube::PatchType::kMerge, patch);
    if (!done && done.error().conflict()) return Outcome::later(kDiscoverSoon);
    if (!done && !done.error().notFound())
      return retryAfter("garbage collector", node.name, done.error());
    return Outcome::done();
  }

  Outcome dropOwners(const std::string& uid, const GraphNode& node,
                     const std::vector<std::string>& gone) {
    return rewrite(uid, node, [&](const Json& live, Json& meta) {
      meta["ownerReferences"] = Json::array();
      for (const Json& owner : arrayAt(live, "metadata.ownerReferences")) {
        if (std::find(gone.begin(), gone.end(), json::stringAt(owner, "uid")) == gone.end())
          meta["ownerReferences"].push_back(owner);
      }
    });
  }

  Outcome dropFinalizer(const std::string& uid, const GraphNode& node, const char* finalizer) {
    return rewrite(uid, node, [&](const Json& live, Json& meta) {
      meta["finalizers"] = Json::array();
      for (const Json& each : arrayAt(live, "metadata.finalizers")) {
        if (each != finalizer) meta["finalizers"].push_back(each);
      }
    });
  }

  Outcome orphan(const std::string& uid, const GraphNode& node) {
    for (const std::string& each : dependents(uid)) {
      std::optional<GraphNode> dependent = find(each);
      if (!dependent) continue;
      Outcome outcome = dropOwners(each, *dependent, {uid});
      if (outcome.what != Outcome::What::kDone) return outcome;
    }
    return dropFinalizer(uid, node, "orphan");
  }

  Outcome deleteDependents(const std::string& uid, const GraphNode& node) {
    bool blocked = false;
    for (const std::string& each : dependents(uid)) {
      std::optional<GraphNode> dependent = find(each);
      if (!dependent) continue;
      for (const OwnerReference& owner : dependent->owners) {
        if (owner.uid == uid && owner.blocks) blocked = true;
      }
      if (dependent->deleting) continue;
      Outcome outcome =
          remove(each, *dependent, dependents(each).empty() ? "Background" : "Foreground");
      if (outcome.what != Outcome::What::kDone) return outcome;
    }
    // Each dependent that goes brings this key up again.
    return blocked ? Outcome::done() : dropFinalizer(uid, node, "foregroundDeletion");
  }

  Context& context_;
  kube::Controller::Sink sink_;
  std::mutex mutex_;  // the graph: handlers write on the client's thread
  ObjectGraph graph_;
  // Of the one worker:
  std::vector<kube::ResourceType> followed_;  // served now
  std::vector<kube::ResourceType> watched_;   // have a handler, for good
};

}  // namespace

void startGarbageCollector(Context& context, std::vector<ControllerPtr>& out) {
  // The context outlives informers and controllers, so the handlers may keep a plain reference.
  auto collector = std::make_shared<Collector>(context);
  context.keep(collector);
  auto controller = kube::Controller::start(
      "garbage-collector",
      [collector](const std::string& key) { return collector->reconcile(key); });
  collector->start(*controller);
  out.push_back(std::move(controller));
}

}  // namespace postern::controllers
