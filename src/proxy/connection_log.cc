#include "proxy/connection_log.h"

#include <chrono>

namespace postern::proxy {

namespace {

constexpr std::string_view kListenerLogType =
    "NotSet";  // Envoy has a name for those of filters only

}  // namespace

formatter::AccessRecord connectionRecord(Worker& worker, const ConnectionFacts& facts,
                                         base::MonotonicTime started) {
  const base::MonotonicTime now = worker.loop().now();
  formatter::AccessRecord out;
  out.log_type = kListenerLogType;
  out.start = worker.loop().clock().wall() -
              std::chrono::duration_cast<base::WallTime::duration>(now - started);
  out.at.request_begin = started;
  out.at.response_end = now;
  out.downstream_local = out.keep(facts.destination.toString());
  out.downstream_remote = out.keep(facts.source.toString());
  out.downstream_direct_remote = out.keep(facts.direct_source.toString());
  out.server_name = facts.server_name;
  if (facts.chain != nullptr) out.filter_chain = facts.chain->name;
  return out;
}

void describeEnd(const net::Transport& client, formatter::AccessRecord& record) {
  record.log_type = kListenerLogType;
  record.downstream_peer = &client.peer();
  if (!client.peer().tls) return;
  const base::Error error = client.error();
  if (error.code == base::Errc::kProtocol) record.downstream_failure = error.text;
  if (error.code == base::Errc::kTimeout)
    record.termination = "transport socket timeout was reached";
}

void logUntaken(Worker& worker, const ConnectionFacts& facts, base::MonotonicTime started) {
  if (facts.listener == nullptr || facts.listener->logs.empty()) return;
  worker.log(facts.listener->logs, connectionRecord(worker, facts, started));
}

}  // namespace postern::proxy
