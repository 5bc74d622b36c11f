// Who asks and whether they may: client certificates, service-account tokens (ES256 JWT), RBAC over
// the stored roles and bindings, and the review kinds. One loop.
#pragma once

#include "apiserver/call.h"

#include <optional>
#include <string>
#include <vector>

namespace postern::apiserver {

struct Attributes {
  std::string verb;
  std::string group;
  std::string resource;
  std::string sub;
  std::string ns;
  std::string name;
  std::string path;  // non-resource requests
};

class Auth {
 public:
  Auth(event::Loop& loop, const store::Store& store, std::string signing_key_pem,
       std::string public_key_pem)
      : loop_(loop),
        store_(store),
        signing_key_(std::move(signing_key_pem)),
        public_key_(std::move(public_key_pem)) {}

  /// No credentials: system:anonymous. Bad ones: 401.
  ApiResult<User> authenticate(const http::Request& request) const;
  bool authorize(const User& user, const Attributes& attributes) const;
  static Failure refusal(const User& user, const Attributes& attributes);

  /// POST …/serviceaccounts/{name}/token; fills in status.
  ApiResult<Json> issueToken(const Call& call, Json request) const;
  /// POST of a review kind (authentication.k8s.io, authorization.k8s.io); nothing if it is none.
  std::optional<ApiResult<Json>> review(const Call& call, Json request) const;

 private:
  ApiResult<User> checkToken(const std::string& token,
                             const std::vector<std::string>& audiences) const;
  bool roleAllows(const Json& role, const Attributes& attributes) const;
  std::vector<const Json*> rolesOf(const User& user, const std::string& ns,
                                   std::vector<store::ObjectPtr>& keep) const;

  event::Loop& loop_;
  const store::Store& store_;
  std::string signing_key_;
  std::string public_key_;
};

}  // namespace postern::apiserver
