#include "apiserver/call.h"

#include "base/strings.h"

namespace postern::apiserver {
namespace {

void parseQuery(std::string_view query, std::map<std::string, std::string>& out) {
  if (query.empty()) return;
  for (std::string_view pair : base::split(query, '&')) {
    std::size_t equals = pair.find('=');
    auto key = base::percentDecode(pair.substr(0, equals), base::Plus::kSpace);
    auto value = equals == std::string_view::npos
                     ? std::string()
                     : base::percentDecode(pair.substr(equals + 1), base::Plus::kSpace);
    if (key && value) out.try_emplace(*key, *value);
  }
}

void parseResource(Call& call) {
  const auto& p = call.path;
  std::size_t at = 0;
  if (p.size() >= 3 && p[0] == "api") {
    call.version = p[1];
    at = 2;
  } else if (p.size() >= 4 && p[0] == "apis") {
    call.group = p[1];
    call.version = p[2];
    at = 3;
  } else {
    return;
  }
  call.is_resource = true;
  bool core = call.group.empty();
  if (p[at] == "namespaces" && p.size() > at + 2 &&
      !(core && (p[at + 2] == "status" || p[at + 2] == "finalize"))) {
    call.ns = p[at + 1];
    at += 2;
  }
  call.resource = p[at];
  if (p.size() > at + 1) call.name = p[at + 1];
  if (p.size() > at + 2) call.sub = p[at + 2];
}

}  // namespace

std::string Call::verb() const {
  const std::string& m = request.method;
  if (m == "GET" || m == "HEAD") return watches() ? "watch" : name.empty() ? "list" : "get";
  if (m == "POST") return "create";
  if (m == "PUT") return "update";
  if (m == "PATCH") return "patch";
  if (m == "DELETE") return name.empty() ? "deletecollection" : "delete";
  return base::toLower(m);
}

std::string Call::fieldManager() const {
  std::string manager = parameter("fieldManager");
  if (!manager.empty()) return manager;
  std::string_view agent = request.headers.value("user-agent");
  agent = agent.substr(0, agent.find('/'));
  return agent.empty() ? "unknown" : std::string(agent);
}

Call parseCall(http::Request request) {
  Call call;
  for (std::string_view piece : base::split(request.path, '/')) {
    if (piece.empty()) continue;
    call.path.push_back(base::percentDecode(piece).value_or(std::string(piece)));
  }
  parseQuery(request.query, call.query);
  call.request = std::move(request);
  parseResource(call);
  return call;
}

}  // namespace postern::apiserver
