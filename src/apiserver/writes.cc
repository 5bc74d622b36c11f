// Create, update and patch: compute the new object, admit it, store it.
#include "apiserver/apply.h"
#include "apiserver/patch.h"
#include "apiserver/rest.h"
#include "base/strings.h"
#include "schema/types.h"

#include <algorithm>
#include <set>

namespace postern::apiserver {
namespace {

constexpr int kPatchAttemptsMax = 5;

void dropNulls(Json& value) {
  if (value.is_array()) {
    for (Json& item : value) dropNulls(item);
  }
  if (!value.is_object()) return;
  for (auto it = value.begin(); it != value.end();) {
    if (it->is_null()) {
      it = value.erase(it);
    } else {
      dropNulls(*it);
      ++it;
    }
  }
}

ApiResult<bool> checkIdentity(const Call& call, Json& object) {
  if (!object.is_object()) return failed(badRequest("the object is not a JSON object"));
  const schema::Kind& kind = call.served->kind;
  std::string expected = kind.apiVersion(call.version);
  std::string version = json::stringAt(object, "apiVersion", expected);
  if (version != expected) {
    return failed(badRequest("the API version in the data (" + version +
                             ") does not match the expected API version (" + expected + ")"));
  }
  std::string name = json::stringAt(object, "kind", kind.kind);
  if (name != kind.kind) {
    return failed(invalid(
        kind, json::stringAt(object, "metadata.name"),
        {{"FieldValueInvalid", "kind", "Invalid value: \"" + name + "\": must be " + kind.kind}}));
  }
  if (!object.contains("metadata") || !object["metadata"].is_object()) {
    object["metadata"] = Json::object();
  }
  std::string ns = json::stringAt(object, "metadata.namespace", call.ns);
  if (kind.namespaced && !ns.empty() && ns != call.ns) {
    return failed(
        badRequest("the namespace of the provided object does not match the namespace "
                   "sent on the request"));
  }
  if (kind.namespaced)
    object["metadata"]["namespace"] = call.ns;
  else
    object["metadata"].erase("namespace");
  return true;
}

/// What a /scale body changes in the object.
ApiResult<Json> withScale(const Call& call, const Json& current, const Json& scale) {
  const Json* replicas = json::find(scale, "spec.replicas");
  long long count = replicas == nullptr ? 0 : json::integerAt(scale, "spec.replicas", -1);
  if (count < 0) {
    return failed(invalid(
        {.group = "autoscaling", .kind = "Scale"}, call.name,
        {{"FieldValueInvalid", "spec.replicas",
          "Invalid value: " + json::dump(*replicas) + ": must be greater than or equal to 0"}}));
  }
  std::string path = "spec.replicas";
  if (const ServedVersion* v = call.served->version(call.version)) {
    path = json::stringAt(v->scale, "specReplicasPath", path);
  }
  Json out = current;
  Json* at = &out;
  for (std::string_view step : base::split(path, '.')) {
    if (step.empty()) continue;
    if (!at->is_object() && !at->is_null()) return failed(unprocessable());
    at = &(*at)[std::string(step)];
  }
  *at = count;
  return out;
}

/// Unknown fields, already removed: an error under Strict, else warnings (unless ignored).
ApiResult<bool> reportUnknown(Write& w, const std::vector<std::string>& unknown) {
  const std::string mode = w.call->parameter("fieldValidation");
  if (!unknown.empty() && mode == "Strict") {
    std::string text;
    for (const std::string& path : unknown) {
      text += (text.empty() ? "" : ", ") + std::string("unknown field \"") + path + "\"";
    }
    return failed(badRequest(w.kind().kind + " in version \"" + w.call->version +
                             "\" cannot be handled as a " + w.kind().kind +
                             ": strict decoding error: " + text));
  }
  if (mode != "Ignore") {
    for (const std::string& path : unknown) w.warnings.push_back("unknown field \"" + path + "\"");
  }
  return true;
}

/// Fields and value types of a built-in kind, in the version the client speaks.
ApiResult<bool> checkBuiltinType(Write& w) {
  if (w.kind().custom || w.call->sub == "scale") return true;
  const std::string version = w.kind().apiVersion(w.call->version);
  const schema::Type* type = schema::builtinType(version, w.kind().kind);
  if (type == nullptr) return true;
  schema::TypeCheck check = schema::checkType(w.object, *type);
  if (check.wrong) {
    return failed(badRequest(w.kind().kind + " in version \"" + w.call->version +
                             "\" cannot be handled as a " + w.kind().kind + ": " + *check.wrong));
  }
  return reportUnknown(w, check.unknown);
}

/// The same fields by the same managers, whenever they were written: an apply that changes nothing
/// writes nothing.
bool sameManagers(const Json& a, const Json& b) {
  const auto entries = [](const Json& managed) {
    std::multiset<std::string> out;
    for (Json each : managed) {
      each.erase("time");
      out.insert(json::dump(each));
    }
    return out;
  };
  return entries(a) == entries(b);
}

Json withoutBookkeeping(Json object) {
  object["metadata"].erase("resourceVersion");
  object["metadata"].erase("managedFields");
  return object;
}

}  // namespace

void Rest::create(std::shared_ptr<Call> call, ResponderPtr responder) {
  auto body = decodeBody(*call);
  if (!body) return respondFailure(*responder, body.error());
  auto write = std::make_shared<Write>();
  write->operation = "CREATE";
  write->success = 201;
  write->responder = std::move(responder);
  if (auto ok = checkIdentity(*call, *body); !ok)
    return respondFailure(*write->responder, ok.error());
  Json& meta = (*body)["metadata"];
  if (!json::stringAt(meta, "resourceVersion").empty()) {
    return respondFailure(
        *write->responder,
        {500, "", "resourceVersion should not be set on objects to be created", nullptr});
  }
  write->name = json::stringAt(meta, "name");
  std::string prefix = json::stringAt(meta, "generateName");
  if (write->name.empty() && !prefix.empty()) {
    constexpr std::string_view kAlphabet = "bcdfghjklmnpqrstvwxz2456789";
    write->name = prefix.substr(0, 58);
    for (int i = 0; i < 5; ++i) write->name += kAlphabet[random_.below(kAlphabet.size())];
    meta["name"] = write->name;
  }
  if (write->name.empty()) {
    return respondFailure(*write->responder,
                          invalid(call->served->kind, "",
                                  {{"FieldValueRequired", "metadata.name",
                                    "Required value: name or generateName is required"}}));
  }
  write->call = call;
  write->compute = [object = std::move(*body)](Write& w, const Json* current) -> ApiResult<Json> {
    if (current != nullptr) return failed(alreadyExists(w.kind(), w.name));
    return object;
  };
  run(std::move(write));
}

void Rest::update(std::shared_ptr<Call> call, ResponderPtr responder) {
  auto body = decodeBody(*call);
  if (!body) return respondFailure(*responder, body.error());
  auto write = std::make_shared<Write>();
  write->operation = "UPDATE";
  write->responder = std::move(responder);
  write->call = call;
  write->name = call->name;
  if (call->sub == "scale") {
    write->compute = [scale = std::move(*body)](Write& w, const Json* current) -> ApiResult<Json> {
      if (current == nullptr) return failed(notFound(w.kind(), w.name));
      return withScale(*w.call, *current, scale);
    };
    return run(std::move(write));
  }
  if (auto ok = checkIdentity(*call, *body); !ok)
    return respondFailure(*write->responder, ok.error());
  std::string name = json::stringAt(*body, "metadata.name", call->name);
  if (name != call->name) {
    return respondFailure(*write->responder,
                          badRequest("the name of the object (" + name +
                                     ") does not match the name on the URL (" + call->name + ")"));
  }
  (*body)["metadata"]["name"] = call->name;
  write->compute = [object = std::move(*body)](Write& w, const Json* current) -> ApiResult<Json> {
    if (current == nullptr) return failed(notFound(w.kind(), w.name));
    if (w.kind().custom && json::stringAt(object, "metadata.resourceVersion").empty()) {
      return failed(invalid(w.kind(), w.name,
                            {{"FieldValueInvalid", "metadata.resourceVersion",
                              "Invalid value: 0: must be specified for an update"}}));
    }
    return object;
  };
  run(std::move(write));
}

void Rest::patch(std::shared_ptr<Call> call, ResponderPtr responder) {
  std::string_view header = call->request.headers.value("content-type");
  std::string type(base::trim(header.substr(0, header.find(';'))));
  const schema::Kind& kind = call->served->kind;
  bool apply = type == "application/apply-patch+yaml";
  bool strategic = type == "application/strategic-merge-patch+json";
  bool merge = type == "application/merge-patch+json";
  if ((strategic && kind.custom) ||
      (!apply && !strategic && !merge && type != "application/json-patch+json")) {
    std::string accepted = "application/json-patch+json, application/merge-patch+json, ";
    if (!kind.custom) accepted += "application/strategic-merge-patch+json, ";
    return respondFailure(*responder,
                          unsupportedMediaType(accepted + "application/apply-patch+yaml"));
  }
  auto body = decodeBody(*call);
  if (!body) return respondFailure(*responder, body.error());
  if (apply && call->parameter("fieldManager").empty()) {
    return respondFailure(*responder, invalid({.group = "meta.k8s.io", .kind = "PatchOptions"}, "",
                                              {{"FieldValueRequired", "fieldManager",
                                                "Required value: is required for apply patch"}}));
  }
  auto write = std::make_shared<Write>();
  write->operation = "UPDATE";
  write->responder = std::move(responder);
  write->call = call;
  write->name = call->name;
  write->compute = [patch = std::move(*body), type, apply, strategic, merge](
                       Write& w, const Json* current) -> ApiResult<Json> {
    if (current == nullptr && !apply) return failed(notFound(w.kind(), w.name));
    if (apply) {
      if (current == nullptr) w.success = 201;
      w.operation = current == nullptr ? "CREATE" : "UPDATE";
      const ServedVersion* v = w.call->served->version(w.call->version);
      Json live =
          current == nullptr ? Json() : versioned(*w.call->served, w.call->version, *current);
      Json config = patch;
      if (auto ok = checkIdentity(*w.call, config); !ok) return failed(ok.error());
      config["metadata"]["name"] = w.name;
      return applyPatch(live, config, w.call->parameter("fieldManager"), w.call->sub,
                        w.call->flag("force"), v == nullptr ? nullptr : &v->schema);
    }
    Json base_object = w.call->sub == "scale"
                           ? scaleOf(*w.call, *current)
                           : versioned(*w.call->served, w.call->version, *current);
    ApiResult<Json> result = strategic ? strategicPatch(base_object, patch)
                             : merge   ? ApiResult<Json>(mergePatch(base_object, patch))
                                       : jsonPatch(base_object, patch);
    if (!result) return result;
    if (w.call->sub == "scale") return withScale(*w.call, *current, *result);
    if (auto ok = checkIdentity(*w.call, *result); !ok) return failed(ok.error());
    if (json::stringAt(*result, "metadata.name") != w.name) {
      return failed(badRequest("the name of the object does not match the name on the URL"));
    }
    return result;
  };
  run(std::move(write));
}

void Rest::run(WritePtr write) {
  auto fail = [&](const Failure& failure) { respondFailure(*write->responder, failure); };
  const Call& call = *write->call;
  write->dry_run = call.parameter("dryRun") == "All";
  write->warnings.clear();
  write->old = store_.get(write->kind().storage, call.ns, write->name);
  auto computed = write->compute(*write, write->old.get());
  if (!computed) return fail(computed.error());
  write->object = std::move(*computed);
  if (auto ok = checkBuiltinType(*write); !ok) return fail(ok.error());
  if (auto ok = prepare(*write); !ok) return fail(ok.error());
  admission_.mutate(write, [this, write](ApiResult<bool> mutated) {
    if (!mutated) return respondFailure(*write->responder, mutated.error());
    if (auto ok = check(*write); !ok) return respondFailure(*write->responder, ok.error());
    admission_.validate(write, [this, write](ApiResult<bool> valid) {
      if (!valid) return respondFailure(*write->responder, valid.error());
      commit(write);
    });
  });
}

ApiResult<bool> Rest::checkNamespace(const Write& write) {
  if (!write.kind().namespaced || write.old) return true;
  const schema::Kind namespaces{.plural = "namespaces", .kind = "Namespace"};
  auto ns = store_.get("/namespaces", "", write.call->ns);
  if (!ns) return failed(notFound(namespaces, write.call->ns));
  if (json::stringAt(*ns, "metadata.deletionTimestamp").empty()) return true;
  Failure f = forbidden(write.kind().qualified() + " \"" + write.name +
                            "\" is forbidden: unable to create new content in namespace " +
                            write.call->ns + " because it is being terminated",
                        &write.kind(), write.name);
  f.details["causes"] =
      Json::array({{{"reason", "NamespaceTerminating"},
                    {"message", "namespace " + write.call->ns + " is being terminated"},
                    {"field", "metadata.namespace"}}});
  return failed(std::move(f));
}

/// System fields come from the stored object, never from the client.
void Rest::carryOver(Write& w) {
  Json& meta = w.object["metadata"];
  if (!w.old) {
    meta["uid"] = random_.uuid();
    meta["creationTimestamp"] = formatTime(now());
    for (const char* field : {"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"}) {
      meta.erase(field);
    }
    if (w.kind().generation)
      meta["generation"] = 1;
    else
      meta.erase("generation");
    bool own_status = w.kind().status && w.kind().storage != "/nodes";
    if (own_status && !w.onStatus()) w.object.erase("status");
    return;
  }
  const Json& old_meta = (*w.old)["metadata"];
  for (const char* field : {"uid", "creationTimestamp", "deletionTimestamp",
                            "deletionGracePeriodSeconds", "generation", "generateName"}) {
    if (old_meta.contains(field))
      meta[field] = old_meta[field];
    else
      meta.erase(field);
  }
  if (w.onStatus()) {
    Json status = w.object.contains("status") ? w.object["status"] : Json();
    Json managed = meta.contains("managedFields") ? meta["managedFields"] : Json();
    Json kept = versioned(*w.call->served, w.call->version, *w.old);
    if (!status.is_null()) kept["status"] = std::move(status);
    if (!managed.is_null()) kept["metadata"]["managedFields"] = std::move(managed);
    w.object = std::move(kept);
  } else if (w.kind().status) {
    if (w.old->contains("status"))
      w.object["status"] = (*w.old)["status"];
    else
      w.object.erase("status");
  }
  if (w.kind().storage == "/namespaces" && w.call->sub != "finalize" && w.old->contains("spec")) {
    w.object["spec"] = (*w.old)["spec"];
  }
}

ApiResult<bool> Rest::prepare(Write& w) {
  if (auto ok = checkNamespace(w); !ok) return ok;
  const Json& meta = w.object["metadata"];
  if (w.old) {
    std::string version = json::stringAt(meta, "resourceVersion");
    if (!version.empty() && version != json::stringAt(*w.old, "metadata.resourceVersion")) {
      return failed(staleVersion(w.kind(), w.name));
    }
    std::string uid = json::stringAt(meta, "uid");
    std::string have = json::stringAt(*w.old, "metadata.uid");
    if (!uid.empty() && uid != have) {
      return failed(conflict(
          w.kind(), w.name,
          "Precondition failed: UID in precondition: " + uid + ", UID in object meta: " + have));
    }
  } else if (auto causes = validateName(w.kind(), w.name); !causes.empty()) {
    return failed(invalid(w.kind(), w.name, causes));
  }
  carryOver(w);
  if (w.kind().custom) {
    dropNulls(w.object["metadata"]);
  } else {
    dropNulls(w.object);
    convertToStored(w.kind(), w.call->version, w.object);
    applyBuiltinDefaults(w.kind(), w.object);
    if (w.kind().storage == "/namespaces" && !w.old) {
      w.object["spec"]["finalizers"] = Json::array({"kubernetes"});
    }
  }
  return true;
}

ApiResult<bool> Rest::check(Write& w) {
  if (!w.kind().custom) {
    applyBuiltinDefaults(w.kind(), w.object);  // for what webhooks added
    auto causes = validateBuiltin(w.kind(), w.object, w.old.get());
    if (!causes.empty()) return failed(invalid(w.kind(), w.name, causes));
    if (w.kind().storage != "/services" || w.onStatus()) return true;
    return allocateService(store_, options_.ranges, w.object, w.old.get());
  }
  const ServedVersion* v = w.call->served->version(w.call->version);
  if (v != nullptr && v->schema.is_object()) {
    auto unknown = schema::prune(w.object, v->schema);
    if (auto ok = reportUnknown(w, unknown); !ok) return ok;
    schema::applyDefaults(w.object, v->schema);
    auto causes = schema::validate(w.object, v->schema);
    if (!causes.empty()) return failed(invalid(w.kind(), w.name, causes));
  }
  convertToStored(w.kind(), w.call->version, w.object);
  return true;
}

void Rest::commit(WritePtr write) {
  Write& w = *write;
  auto current = store_.get(w.kind().storage, w.call->ns, w.name);
  if (current != w.old) {  // changed while webhooks were asked
    if (++w.attempts < kPatchAttemptsMax) return run(std::move(write));
    return respondFailure(*w.responder, staleVersion(w.kind(), w.name));
  }
  Json& meta = w.object["metadata"];
  if (w.old) {
    if (!json::stringAt(*w.old, "metadata.deletionTimestamp").empty()) {
      const Json* before = json::find(*w.old, "metadata.finalizers");
      const Json* after = json::find(w.object, "metadata.finalizers");
      for (std::size_t i = 0; after && after->is_array() && i < after->size(); ++i) {
        if (before && std::find(before->begin(), before->end(), (*after)[i]) != before->end())
          continue;
        return respondFailure(
            *w.responder, invalid(w.kind(), w.name,
                                  {{"FieldValueForbidden", "metadata.finalizers",
                                    "Forbidden: no new finalizers can be added if the object is "
                                    "being deleted"}}));
      }
    }
    if (withoutBookkeeping(w.object) == withoutBookkeeping(*w.old) &&
        sameManagers(meta.value("managedFields", Json()),
                     (*w.old)["metadata"].value("managedFields", Json()))) {
      return finish(write, *w.old);
    }
    Json a = w.object;
    Json b = *w.old;
    for (const char* field : {"metadata", "status", "apiVersion"}) {
      a.erase(field);
      b.erase(field);
    }
    if (w.kind().generation && a != b) {
      meta["generation"] = json::integerAt(*w.old, "metadata.generation") + 1;
    }
    const Json* finalizers = json::find(w.object, "metadata.finalizers");
    bool held = finalizers != nullptr && !finalizers->empty();
    if (w.kind().storage == "/namespaces") {
      const Json* own = json::find(w.object, "spec.finalizers");
      held = held || (own != nullptr && !own->empty());
    }
    bool grace_over = w.kind().storage != "/pods" ||
                      json::integerAt(*w.old, "metadata.deletionGracePeriodSeconds") == 0;
    if (!json::stringAt(*w.old, "metadata.deletionTimestamp").empty() && !held && grace_over &&
        !w.dry_run) {
      Json last = w.object;
      (void)store_.put(w.kind().storage, w.call->ns, w.name, std::move(last));
      (void)store_.remove(w.kind().storage, w.call->ns, w.name);
      return finish(write, w.object);
    }
  }
  trackUpdate(w.old.get(), w.object, w.call->fieldManager(), w.call->sub, formatTime(now()));
  if (json::dump(w.object).size() > kObjectBytesMax) {
    Failure failure = tooLarge();
    failure.message = "etcdserver: request is too large";
    return respondFailure(*w.responder, failure);
  }
  if (w.dry_run) return finish(write, w.object);
  auto stored = store_.put(w.kind().storage, w.call->ns, w.name, w.object);
  if (!stored) return respondFailure(*w.responder, internal(stored.error().message()));
  finish(write, **stored);
}

void Rest::finish(WritePtr write, const Json& object) {
  const Call& call = *write->call;
  if (call.sub == "scale") {
    return respondJson(*write->responder, write->success, scaleOf(call, object), write->warnings);
  }
  auto rendering = renderingFor(call, now(), options_.arrays);
  Json body = rendering ? renderObject(call, *rendering, object)
                        : versioned(*call.served, call.version, object);
  respondJson(*write->responder, write->success, body, write->warnings);
}

}  // namespace postern::apiserver
