#include "network/resolv_conf.h"

#include "base/strings.h"
#include "network/dns_message.h"

#include <fstream>
#include <sstream>

namespace postern::network {

std::vector<net::Address> resolversIn(const std::string& path) {
  std::vector<net::Address> out;
  std::ifstream file(path);
  std::string line;
  while (out.size() < kResolversMax && std::getline(file, line)) {
    std::istringstream words(line);
    std::string keyword;
    std::string value;
    words >> keyword >> value;
    if (keyword != "nameserver") continue;
    if (const auto address = net::Address::fromIp(value, kDnsPort)) out.push_back(*address);
  }
  return out;
}

}  // namespace postern::network
