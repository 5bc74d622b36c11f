// What a person may type after an installation: the article's commands with the addresses that this
// cluster gave.
#pragma once

#include "json/json.h"
#include "kube/client.h"

#include <string>
#include <vector>

namespace postern::cli {

struct NextSteps {
  std::string context;
  std::vector<std::string> addresses;  // of the mesh's ingress gateway
  int http_port = 80;                  // where its port 80 is on the host
  bool demo = false;

  std::string toText() const;
  json::Json toJson() const;
};

NextSteps nextSteps(kube::Client& client, std::string context, bool demo);

}  // namespace postern::cli
