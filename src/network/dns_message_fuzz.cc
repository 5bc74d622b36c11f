// Queries and replies from outside; what is answered to a query must be readable again.
#include "base/check.h"
#include "network/dns_message.h"

#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern::network;
  const std::string_view message(reinterpret_cast<const char*>(data), size);
  if (const auto query = parseDnsQuery(message)) {
    const std::string answer = dnsResponse(*query, DnsCode::kNoError,
                                           {dnsCname(query->name), dnsA("192.0.2.1", query->name),
                                            dnsSrv(80, query->name), dnsA("192.0.2.2")},
                                           5, query->udp_bytes_max);
    POSTERN_CHECK(answer.size() <= query->udp_bytes_max);
    const auto reply = parseDnsReply(answer, query->question);
    POSTERN_CHECK(reply && reply->code == DnsCode::kNoError);
    POSTERN_CHECK(reply->truncated || reply->ipv4_addresses.size() == 2);
  }
  // A reply to a question of its own, as far as it goes.
  constexpr std::size_t kHeader = 12;
  for (std::size_t length = 0; kHeader + length <= size; length += 5) {
    (void)parseDnsReply(message, message.substr(kHeader, length));
  }
  return 0;
}
