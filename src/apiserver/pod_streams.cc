#include "apiserver/pod_streams.h"

#include "apiserver/exchange.h"
#include "base/strings.h"

#include <optional>
#include <utility>

namespace postern::apiserver {
namespace {

using Query = std::vector<std::pair<std::string, std::string>>;

std::string pathOf(const std::vector<std::string>& segments, const Query& query) {
  std::string out;
  for (const std::string& segment : segments) out += "/" + base::percentEncode(segment);
  char separator = '?';
  for (const auto& [name, value] : query) {
    out += std::exchange(separator, '&') + name + "=" + base::percentEncode(value);
  }
  return out;
}

/// Every container's name: init containers, containers, ephemeral ones.
std::vector<std::string> containersOf(const Json& pod) {
  std::vector<std::string> out;
  for (const char* list : {"spec.initContainers", "spec.containers", "spec.ephemeralContainers"}) {
    const Json* containers = json::find(pod, list);
    if (containers == nullptr || !containers->is_array()) continue;
    for (const Json& container : *containers) out.push_back(json::stringAt(container, "name"));
  }
  return out;
}

/// The container meant, as Kubernetes picks it: the only one, or the one that is named.
ApiResult<std::string> containerOf(const Call& call, const Json& pod) {
  std::string name = call.parameter("container");
  const std::vector<std::string> all = containersOf(pod);
  if (!name.empty()) {
    for (const std::string& each : all) {
      if (each == name) return name;
    }
    return failed(badRequest("container " + name + " is not valid for pod " + call.name));
  }
  const Json* containers = json::find(pod, "spec.containers");
  if (containers != nullptr && containers->size() == 1) {
    return json::stringAt(containers->front(), "name");
  }
  return failed(badRequest("a container name must be specified for pod " + call.name +
                           ", choose one of: [" + base::join(all, " ") + "]"));
}

/// One optional number of the log options; "" when absent, nothing when it is none.
std::optional<std::string> number(const Call& call, const char* name, long long least,
                                  const char* rule, std::vector<schema::Cause>& causes) {
  std::string text = call.parameter(name);
  if (text.empty()) return text;
  auto value = base::parseInteger<long long>(text);
  if (!value) return std::nullopt;
  if (*value < least) {
    causes.push_back({"FieldValueInvalid", name, "Invalid value: " + text + ": " + rule});
  }
  return text;
}

ApiResult<Query> logQuery(const Call& call) {
  Query query;
  std::vector<schema::Cause> causes;
  for (const char* name : {"follow", "previous", "timestamps"}) {
    if (call.flag(name)) query.emplace_back(name, "true");
  }
  constexpr const char* kPositive = "must be greater than 0";
  constexpr const char* kNotNegative = "must be greater than or equal to 0";
  const struct {
    const char* name;
    long long least;
    const char* rule;
  } numbers[] = {
      {"sinceSeconds", 1, kPositive}, {"tailLines", 0, kNotNegative}, {"limitBytes", 1, kPositive}};
  for (const auto& [name, least, rule] : numbers) {
    auto text = number(call, name, least, rule, causes);
    if (!text) {
      return failed(badRequest(std::string("parameter ") + name + " is not a number: \"" +
                               call.parameter(name) + "\""));
    }
    if (!text->empty()) query.emplace_back(name, *text);
  }
  if (std::string since = call.parameter("sinceTime"); !since.empty()) {
    if (!call.parameter("sinceSeconds").empty()) {
      causes.push_back({"FieldValueForbidden", "",
                        "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be "
                        "specified"});
    }
    query.emplace_back("sinceTime", since);
  }
  if (!causes.empty()) {
    schema::Kind options;
    options.kind = "PodLogOptions";
    return failed(invalid(options, call.name, causes));
  }
  return query;
}

Query execQuery(const Call& call) {
  Query query;
  const std::pair<const char*, const char*> flags[] = {
      {"stdin", "input"}, {"stdout", "output"}, {"stderr", "error"}, {"tty", "tty"}};
  for (const auto& [ours, kubelets] : flags) {
    if (call.flag(ours)) query.emplace_back(kubelets, "1");
  }
  for (std::string& word : call.request.parameters("command")) {
    query.emplace_back("command", std::move(word));
  }
  return query;
}

/// What the node said instead of a log, as the API says it.
Failure logFailure(int status, std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (status == 400) return badRequest(std::move(text));
  if (status == 404) return {404, "NotFound", std::move(text), nullptr};
  return internal(std::move(text));
}

}  // namespace

bool isPodStream(const Call& call) {
  return call.group.empty() && call.resource == "pods" &&
         (call.sub == "exec" || call.sub == "attach" || call.sub == "portforward" ||
          call.sub == "log");
}

ApiResult<std::string> nodeTarget(const Call& call, const Json& pod) {
  const std::string& method = call.request.method;
  if (method != "GET" && (call.sub == "log" || method != "POST")) return failed(methodNotAllowed());
  const bool placed = !json::stringAt(pod, "spec.nodeName").empty();
  const Failure homeless = badRequest("pod " + call.name + " does not have a host assigned");
  if (call.sub == "portforward") {
    if (!placed) return failed(homeless);
    return pathOf({"portForward", call.ns, call.name}, {});
  }
  Query query;
  if (call.sub == "log") {
    auto checked = logQuery(call);
    if (!checked) return failed(checked.error());
    query = std::move(*checked);
  } else {
    query = execQuery(call);
  }
  auto container = containerOf(call, pod);
  if (!container) return container;
  if (!placed) return call.sub == "log" ? ApiResult<std::string>("") : failed(homeless);
  const std::string verb = call.sub == "log" ? "containerLogs" : call.sub;
  return pathOf({verb, call.ns, call.name, *container}, query);
}

void forwardToNode(event::Loop& loop, NodeConnector& node, const Call& call, std::string target,
                   std::unique_ptr<http::Responder> responder) {
  http::ClientRequest request;
  request.method = call.request.method;
  request.path = std::move(target);
  request.authority = "node";
  // The credential stays here; what belongs to one connection is made anew.
  call.request.headers.each([&](std::string_view name, std::string_view value) {
    if (!name.starts_with(':') && name != "authorization" && name != "host" &&
        name != "content-length" && name != "connection") {
      request.headers.add(name, value);
    }
  });
  auto kept = std::make_shared<std::unique_ptr<http::Responder>>(std::move(responder));
  auto sent = std::make_shared<http::ClientRequest>(std::move(request));
  const bool log = call.sub == "log";
  node.connect([&loop, kept, sent, log](base::Result<std::unique_ptr<net::Transport>> transport) {
    if (!transport) {
      return respondFailure(
          **kept,
          {500, "InternalError", "error dialing backend: " + transport.error().message(), nullptr});
    }
    exchangeForward(loop, std::move(*transport), std::move(*sent), std::move(*kept),
                    log ? ErrorAnswer(logFailure) : ErrorAnswer());
  });
}

}  // namespace postern::apiserver
