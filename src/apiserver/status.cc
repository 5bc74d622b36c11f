#include "apiserver/status.h"

namespace postern::apiserver {
namespace {

Json detailsOf(const schema::Kind& kind, const std::string& name, const std::string& kind_name) {
  Json details = Json::object();
  if (!name.empty()) details["name"] = name;
  if (!kind.group.empty()) details["group"] = kind.group;
  details["kind"] = kind_name;
  return details;
}

std::string quoted(const schema::Kind& kind, const std::string& name) {
  return kind.qualified() + " \"" + name + "\"";
}

}  // namespace

Json Failure::toJson() const {
  Json status = {{"kind", "Status"},    {"apiVersion", "v1"}, {"metadata", Json::object()},
                 {"status", "Failure"}, {"message", message}, {"reason", reason},
                 {"code", code}};
  if (!details.is_null()) status["details"] = details;
  return status;
}

Failure badRequest(std::string message) { return {400, "BadRequest", std::move(message), nullptr}; }
Failure unauthorized() { return {401, "Unauthorized", "Unauthorized", nullptr}; }
Failure forbidden(std::string message, const schema::Kind* kind, std::string name) {
  return {403, "Forbidden", std::move(message),
          kind == nullptr ? Json() : detailsOf(*kind, name, kind->plural)};
}
Failure notFound(const schema::Kind& kind, const std::string& name) {
  return {404, "NotFound", quoted(kind, name) + " not found", detailsOf(kind, name, kind.plural)};
}
Failure noSuchResource() {
  return {404, "NotFound", "the server could not find the requested resource", Json::object()};
}
Failure methodNotAllowed() {
  return {405, "MethodNotAllowed",
          "the server does not allow this method on the requested resource", Json::object()};
}
Failure alreadyExists(const schema::Kind& kind, const std::string& name) {
  return {409, "AlreadyExists", quoted(kind, name) + " already exists",
          detailsOf(kind, name, kind.plural)};
}
Failure conflict(const schema::Kind& kind, const std::string& name, const std::string& why) {
  return {409, "Conflict", "Operation cannot be fulfilled on " + quoted(kind, name) + ": " + why,
          detailsOf(kind, name, kind.plural)};
}
Failure staleVersion(const schema::Kind& kind, const std::string& name) {
  return conflict(kind, name,
                  "the object has been modified; please apply your changes to the latest version "
                  "and try again");
}
Failure invalid(const schema::Kind& kind, const std::string& name,
                const std::vector<schema::Cause>& causes) {
  Json list = Json::array();
  std::string texts;
  for (const schema::Cause& cause : causes) {
    list.push_back({{"reason", cause.reason}, {"message", cause.message}, {"field", cause.field}});
    texts += (texts.empty() ? "" : ", ") + cause.field + ": " + cause.message;
  }
  if (causes.size() > 1) texts = "[" + texts + "]";
  std::string who = kind.group.empty() ? kind.kind : kind.kind + "." + kind.group;
  Json details = detailsOf(kind, name, kind.kind);
  details["causes"] = list;
  return {422, "Invalid", who + " \"" + name + "\" is invalid: " + texts, details};
}
Failure unprocessable() {
  return {422, "Invalid", "the server rejected our request due to an error in our request",
          Json::object()};
}
Failure unsupportedMediaType(const std::string& accepted) {
  return {415, "UnsupportedMediaType",
          "the body of the request was in an unknown format - accepted media types include: " +
              accepted,
          Json::object()};
}
Failure tooLarge() {
  return {413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728", Json()};
}

Failure expired(std::string message) { return {410, "Expired", std::move(message), nullptr}; }
Failure internal(std::string message) {
  return {500, "InternalError", "Internal error occurred: " + message, nullptr};
}

}  // namespace postern::apiserver
