// Failures of API calls in the exact shape Kubernetes clients expect (kind Status). Values.
#pragma once

#include "json/json.h"
#include "schema/kinds.h"
#include "schema/structural.h"

#include <nlohmann/json.hpp>

#include <expected>
#include <string>
#include <vector>

namespace postern::apiserver {

using json::Json;

struct Failure {
  int code = 500;
  std::string reason;
  std::string message;
  Json details;  // null: absent

  Json toJson() const;
};

template <class T>
using ApiResult = std::expected<T, Failure>;

inline std::unexpected<Failure> failed(Failure failure) {
  return std::unexpected(std::move(failure));
}

Failure badRequest(std::string message);
Failure unauthorized();
Failure forbidden(std::string message, const schema::Kind* kind = nullptr, std::string name = "");
Failure notFound(const schema::Kind& kind, const std::string& name);
Failure noSuchResource();
Failure methodNotAllowed();
Failure alreadyExists(const schema::Kind& kind, const std::string& name);
Failure conflict(const schema::Kind& kind, const std::string& name, const std::string& why);
/// The object was changed by someone else since it was read.
Failure staleVersion(const schema::Kind& kind, const std::string& name);
Failure invalid(const schema::Kind& kind, const std::string& name,
                const std::vector<schema::Cause>& causes);
Failure unprocessable();
Failure unsupportedMediaType(const std::string& accepted);
Failure tooLarge();
Failure expired(std::string message);
Failure internal(std::string message);

}  // namespace postern::apiserver
