// Deletes: grace, finalizers, propagation, preconditions; single objects and collections.
#include "apiserver/rest.h"
#include "base/strings.h"

#include <algorithm>

namespace postern::apiserver {
namespace {

ApiResult<Json> optionsOf(const Call& call) {
  Json options = Json::object();
  if (!call.request.body.empty()) {
    auto body = decodeBody(call);
    if (!body) return body;
    if (body->is_object()) options = std::move(*body);
  }
  auto grace = base::parseInteger<long long>(call.parameter("gracePeriodSeconds"));
  if (grace) options["gracePeriodSeconds"] = *grace;
  if (!call.parameter("propagationPolicy").empty()) {
    options["propagationPolicy"] = call.parameter("propagationPolicy");
  }
  return options;
}

void addFinalizer(Json& meta, const char* finalizer) {
  if (!meta.contains("finalizers") || !meta["finalizers"].is_array()) {
    meta["finalizers"] = Json::array();
  }
  Json& list = meta["finalizers"];
  if (std::find(list.begin(), list.end(), Json(finalizer)) == list.end()) list.push_back(finalizer);
}

}  // namespace

void Rest::remove(std::shared_ptr<Call> call, ResponderPtr responder) {
  auto options = optionsOf(*call);
  if (!options) return respondFailure(*responder, options.error());
  bool dry_run = call->parameter("dryRun") == "All" || options->contains("dryRun");
  auto result = removeOne(*call, call->ns, call->name, *options, dry_run);
  if (!result) return respondFailure(*responder, result.error());
  respondJson(*responder, 200, *result);
}

/// The answer of the delete: a Status when the object is gone, else the object.
ApiResult<Json> Rest::removeOne(const Call& call, const std::string& ns, const std::string& name,
                                const Json& options, bool dry_run) {
  const schema::Kind& kind = call.served->kind;
  auto old = store_.get(kind.storage, ns, name);
  if (!old) return failed(notFound(kind, name));
  std::string uid = json::stringAt(*old, "metadata.uid");
  std::string wanted = json::stringAt(options, "preconditions.uid");
  std::string version = json::stringAt(options, "preconditions.resourceVersion");
  if ((!wanted.empty() && wanted != uid) ||
      (!version.empty() && version != json::stringAt(*old, "metadata.resourceVersion"))) {
    return failed(conflict(
        kind, name,
        "Precondition failed: UID in precondition: " + wanted + ", UID in object meta: " + uid));
  }
  if (kind.storage == "/namespaces" &&
      (name == "default" || name == "kube-system" || name == "kube-public")) {
    return failed(
        forbidden("namespaces \"" + name + "\" is forbidden: this namespace may not be deleted",
                  &kind, name));
  }
  Json object = *old;
  Json& meta = object["metadata"];
  std::string policy = json::stringAt(options, "propagationPolicy");
  if (policy == "Foreground") addFinalizer(meta, "foregroundDeletion");
  if (policy == "Orphan") addFinalizer(meta, "orphan");
  long long grace = 0;
  if (kind.storage == "/pods") {
    grace = json::integerAt(options, "gracePeriodSeconds",
                            json::integerAt(object, "spec.terminationGracePeriodSeconds", 30));
    // Nothing runs yet: nothing to wait for.
    if (json::stringAt(object, "spec.nodeName").empty()) grace = 0;
  }
  bool held = meta.contains("finalizers") && !meta["finalizers"].empty();
  if (const Json* own = json::find(object, "spec.finalizers");
      kind.storage == "/namespaces" && own != nullptr && !own->empty()) {
    held = true;
    object["status"]["phase"] = "Terminating";
  }
  bool already = !json::stringAt(meta, "deletionTimestamp").empty();
  long long before = json::integerAt(meta, "deletionGracePeriodSeconds");
  if (held || grace > 0) {
    if (!already || grace < before) {
      meta["deletionTimestamp"] = formatTime(now() + std::chrono::seconds(grace));
      meta["deletionGracePeriodSeconds"] = grace;
      if (kind.generation) meta["generation"] = json::integerAt(meta, "generation") + 1;
    }
    if (object != *old && !dry_run) {
      auto stored = store_.put(kind.storage, ns, name, std::move(object));
      if (!stored) return failed(internal(stored.error().message()));
      return versioned(*call.served, call.version, **stored);
    }
    return versioned(*call.served, call.version, object);
  }
  if (!dry_run) {
    if (kind.storage == "/pods" && already && before > 0) {
      meta["deletionGracePeriodSeconds"] = 0;
      (void)store_.put(kind.storage, ns, name, std::move(object));
    }
    auto gone = store_.remove(kind.storage, ns, name);
    if (!gone) return failed(internal(gone.error().message()));
  }
  Json details = {{"name", name}, {"kind", kind.plural}, {"uid", uid}};
  if (!kind.group.empty()) details["group"] = kind.group;
  return Json{{"kind", "Status"},
              {"apiVersion", "v1"},
              {"metadata", Json::object()},
              {"status", "Success"},
              {"details", std::move(details)}};
}

void Rest::removeCollection(const Call& call, ResponderPtr responder) {
  auto options = optionsOf(call);
  if (!options) return respondFailure(*responder, options.error());
  auto labels = LabelSelector::parse(call.parameter("labelSelector"));
  if (!labels) return respondFailure(*responder, labels.error());
  auto fields = FieldSelector::parse(call.parameter("fieldSelector"), call.served->kind);
  if (!fields) return respondFailure(*responder, fields.error());
  bool dry_run = call.parameter("dryRun") == "All";
  std::vector<store::ObjectPtr> removed;
  for (const auto& object : store_.list(call.served->kind.storage, call.ns)) {
    if (!labels->matches(*object) || !fields->matches(*object)) continue;
    auto result = removeOne(call, json::stringAt(*object, "metadata.namespace"),
                            json::stringAt(*object, "metadata.name"), *options, dry_run);
    if (!result) return respondFailure(*responder, result.error());
    removed.push_back(object);
  }
  Json meta = {{"resourceVersion", std::to_string(store_.revision())}};
  respondJson(*responder, 200, renderList(call, Rendering{}, removed, std::move(meta)));
}

}  // namespace postern::apiserver
