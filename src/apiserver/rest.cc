#include "apiserver/rest.h"

#include "base/strings.h"
#include "schema/protobuf.h"

#include <algorithm>

namespace postern::apiserver {
namespace {

/// Position after the last item of a page, as an opaque token.
std::string continueToken(store::Revision revision, const Json& last) {
  Json token = {{"rv", revision},
                {"ns", json::stringAt(last, "metadata.namespace")},
                {"name", json::stringAt(last, "metadata.name")}};
  return base::base64UrlEncode(json::dump(token));
}

bool readToken(const std::string& text, std::pair<std::string, std::string>& after) {
  auto bytes = base::base64Decode(text);
  if (!bytes) return false;
  auto token = json::parse(*bytes);
  if (!token || !token->is_object()) return false;
  after = {json::stringAt(*token, "ns"), json::stringAt(*token, "name")};
  return true;
}

std::string dotless(std::string path) {
  if (path.starts_with('.')) path.erase(0, 1);
  return path;
}

}  // namespace

ApiResult<Json> decodeBody(const Call& call) {
  if (call.request.body.size() > kRequestBytesMax) return failed(tooLarge());
  std::string_view type = call.request.headers.value("content-type");
  type = base::trim(type.substr(0, type.find(';')));
  bool yaml = type == "application/yaml" || type == "application/apply-patch+yaml";
  if (type == "application/vnd.kubernetes.protobuf") {
    auto decoded = schema::decodeProtobuf(call.request.body);
    if (!decoded) {
      return failed(
          badRequest("the object provided is unrecognized: " + decoded.error().message()));
    }
    return std::move(*decoded);
  }
  if (!type.empty() && !yaml && type != "application/json" && !type.ends_with("+json")) {
    return failed(unsupportedMediaType(
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"));
  }
  auto parsed = yaml ? json::parseYaml(call.request.body) : json::parse(call.request.body);
  if (!parsed) {
    return failed(badRequest("the object provided is unrecognized: " + parsed.error().message()));
  }
  return std::move(*parsed);
}

void respondJson(http::Responder& responder, int status, const Json& body,
                 const std::vector<std::string>& warnings) {
  http::HeaderMap headers{{"content-type", "application/json"},
                          {"cache-control", "no-cache, private"}};
  for (const std::string& w : warnings) headers.add("warning", "299 - " + json::dump(Json(w)));
  responder.respond(status, std::move(headers), json::dump(body) + "\n");
}

void respondFailure(http::Responder& responder, const Failure& failure) {
  respondJson(responder, failure.code, failure.toJson());
}

Json scaleOf(const Call& call, const Json& object) {
  std::string spec_path = "spec.replicas";
  std::string status_path = "status.replicas";
  std::string selector_path;
  if (const ServedVersion* v = call.served->version(call.version)) {
    spec_path = dotless(json::stringAt(v->scale, "specReplicasPath", spec_path));
    status_path = dotless(json::stringAt(v->scale, "statusReplicasPath", status_path));
    selector_path = dotless(json::stringAt(v->scale, "labelSelectorPath"));
  }
  std::string selector = selector_path.empty() ? "" : json::stringAt(object, selector_path);
  const Json* labels = json::find(object, "spec.selector.matchLabels");
  if (selector.empty() && labels != nullptr && labels->is_object()) {
    for (auto it = labels->begin(); it != labels->end(); ++it) {
      selector += (selector.empty() ? "" : ",") + it.key() + "=" +
                  (it->is_string() ? it->get<std::string>() : "");
    }
  }
  Json meta = Json::object();
  for (const char* field : {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}) {
    std::string value = json::stringAt(object, std::string("metadata.") + field);
    if (!value.empty()) meta[field] = value;
  }
  Json status = {{"replicas", json::integerAt(object, status_path)}};
  if (!selector.empty()) status["selector"] = selector;
  return {{"kind", "Scale"},
          {"apiVersion", "autoscaling/v1"},
          {"metadata", std::move(meta)},
          {"spec", {{"replicas", json::integerAt(object, spec_path)}}},
          {"status", std::move(status)}};
}

Rest::Rest(event::Loop& loop, store::Store& store, Catalog& catalog, Admission& admission,
           Options options)
    : loop_(loop),
      store_(store),
      catalog_(catalog),
      admission_(admission),
      options_(std::move(options)),
      watches_(loop, store, options_.arrays) {}

void Rest::ensure(const std::string& storage, const std::string& ns, Json object) {
  std::string name = json::stringAt(object, "metadata.name");
  if (store_.get(storage, ns, name)) return;
  Json& meta = object["metadata"];
  meta["uid"] = random_.uuid();
  meta["creationTimestamp"] = formatTime(now());
  if (!ns.empty()) meta["namespace"] = ns;
  for (const auto& served : catalog_.all()) {
    if (served->kind.storage == storage) applyBuiltinDefaults(served->kind, object);
  }
  (void)store_.put(storage, ns, name, std::move(object));
}

void Rest::handle(std::shared_ptr<Call> call, ResponderPtr responder) {
  const std::string verb = call->verb();
  if (call->served->kind.namespaced && call->ns.empty() && !call->name.empty()) {
    return respondFailure(*responder, noSuchResource());
  }
  if (!call->parameter("dryRun").empty() && call->parameter("dryRun") != "All") {
    return respondFailure(*responder, {422, "Invalid",
                                       "dryRun: Unsupported value: \"" + call->parameter("dryRun") +
                                           "\": supported values: \"All\"",
                                       Json::object()});
  }
  if (verb == "get") return get(*call, std::move(responder));
  if (verb == "list" || verb == "watch") return list(call, std::move(responder));
  if (verb == "create" && call->name.empty()) return create(call, std::move(responder));
  if (verb == "update" && !call->name.empty()) return update(call, std::move(responder));
  if (verb == "patch" && !call->name.empty()) return patch(call, std::move(responder));
  if (verb == "delete" && call->sub.empty()) return remove(call, std::move(responder));
  if (verb == "deletecollection") return removeCollection(*call, std::move(responder));
  respondFailure(*responder, methodNotAllowed());
}

void Rest::get(const Call& call, ResponderPtr responder) {
  auto rendering = renderingFor(call, now(), options_.arrays);
  if (!rendering) return respondFailure(*responder, rendering.error());
  auto object = store_.get(call.served->kind.storage, call.ns, call.name);
  if (!object) return respondFailure(*responder, notFound(call.served->kind, call.name));
  if (call.sub == "scale") return respondJson(*responder, 200, scaleOf(call, *object));
  respondJson(*responder, 200, renderObject(call, *rendering, *object));
}

void Rest::list(std::shared_ptr<const Call> call, ResponderPtr responder) {
  auto rendering = renderingFor(*call, now(), options_.arrays);
  if (!rendering) return respondFailure(*responder, rendering.error());
  auto labels = LabelSelector::parse(call->parameter("labelSelector"));
  if (!labels) return respondFailure(*responder, labels.error());
  auto fields = FieldSelector::parse(call->parameter("fieldSelector"), call->served->kind);
  if (!fields) return respondFailure(*responder, fields.error());
  std::string since = call->parameter("resourceVersion");
  auto revision =
      since.empty() ? store::Revision(0) : base::parseInteger<store::Revision>(since).value_or(-1);
  if (revision < 0) {
    return respondFailure(*responder, badRequest("Invalid value: \"" + since +
                                                 "\": strconv.ParseUint: "
                                                 "parsing \"" +
                                                 since + "\": invalid syntax"));
  }
  if (revision > store_.revision()) {
    return respondFailure(
        *responder,
        {504,
         "Timeout",
         "Too large resource version: " + since + ", current: " + std::to_string(store_.revision()),
         {{"causes", Json::array({{{"reason", "ResourceVersionTooLarge"},
                                   {"message", "Too large resource version"}}})},
          {"retryAfterSeconds", 1}}});
  }
  std::string match = call->parameter("resourceVersionMatch");
  if (call->watches()) {
    bool initial = call->flag("sendInitialEvents");
    if ((initial && match != "NotOlderThan") || (!initial && !match.empty())) {
      return respondFailure(
          *responder,
          invalid({.group = "meta.k8s.io", .kind = "ListOptions"}, "",
                  {{"FieldValueForbidden", "resourceVersionMatch",
                    initial ? "Forbidden: resourceVersionMatch must be NotOlderThan when "
                              "sendInitialEvents is set"
                            : "Forbidden: resourceVersionMatch is forbidden for watch unless "
                              "sendInitialEvents is provided"}}));
    }
    return watches_.start(std::move(call), std::move(responder), std::move(*labels),
                          std::move(*fields), std::move(*rendering));
  }
  if (match == "Exact" && revision < store_.revision()) {
    return respondFailure(*responder, expired("The provided resource version is too old."));
  }
  std::pair<std::string, std::string> after;
  std::string token = call->parameter("continue");
  if (!token.empty() && !readToken(token, after)) {
    return respondFailure(*responder, badRequest("invalid continue token: " + token));
  }
  auto limit = base::parseInteger<std::size_t>(call->parameter("limit")).value_or(0);
  std::vector<store::ObjectPtr> page;
  std::size_t remaining = 0;
  for (auto& object : store_.list(call->served->kind.storage, call->ns)) {
    if (!token.empty() && std::make_pair(json::stringAt(*object, "metadata.namespace"),
                                         json::stringAt(*object, "metadata.name")) <= after) {
      continue;
    }
    if (!labels->matches(*object) || !fields->matches(*object)) continue;
    if (limit != 0 && page.size() == limit)
      ++remaining;
    else
      page.push_back(std::move(object));
  }
  Json meta = {{"resourceVersion", std::to_string(store_.revision())}};
  if (remaining > 0) {
    meta["continue"] = continueToken(store_.revision(), *page.back());
    if (labels->empty() && fields->empty()) meta["remainingItemCount"] = remaining;
  }
  respondJson(*responder, 200, renderList(*call, *rendering, page, std::move(meta)));
}

}  // namespace postern::apiserver
