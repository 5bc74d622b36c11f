// The statistics of TLS of one listener or cluster in one worker: "<prefix>ssl.…". Loop thread; as
// long-lived as the store of the worker's statistics.
#pragma once

#include "stats/stats.h"
#include "tls/settings.h"

namespace postern::stats {

class TlsStats final : public tls::HandshakeObserver {
 public:
  /// `prefix` as "listener.0.0.0.0_443." or "cluster.web.".
  TlsStats(Store& store, const std::string& prefix);
  /// Of listeners: counts handshakes that took too long here.
  void countTimeouts(Counter& counter) { timeouts_ = &counter; }
  void onHandshake(const tls::HandshakeReport& report) override;
  void onFailure(tls::Failure failure) override;
  void onUntrusted() override { fail_verify_error_.add(); }
  void onStaple(tls::Staple staple) override;
  void onBadKeyUsage() override { key_usage_invalid_.add(); }

 private:
  Scope& scope_;
  Counter& handshake_;
  Counter& connection_error_;
  Counter& session_reused_;
  Counter& no_certificate_;
  Counter& fail_verify_no_cert_;
  Counter& fail_verify_error_;
  Counter& fail_verify_san_;
  Counter& fail_verify_cert_hash_;
  Counter& staple_requests_;
  Counter& staple_responses_;
  Counter& staple_omitted_;
  Counter& staple_failed_;
  Counter& key_usage_invalid_;
  Counter* timeouts_ = nullptr;  // of handshakes; null: not counted (clusters)
};

}  // namespace postern::stats
