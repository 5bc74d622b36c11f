#include "stats/tls_stats.h"

namespace postern::stats {

TlsStats::TlsStats(Store& store, const std::string& prefix)
    : scope_(store.scope(prefix + "ssl.")),
      handshake_(scope_.counter("handshake")),
      connection_error_(scope_.counter("connection_error")),
      session_reused_(scope_.counter("session_reused")),
      no_certificate_(scope_.counter("no_certificate")),
      fail_verify_no_cert_(scope_.counter("fail_verify_no_cert")),
      fail_verify_error_(scope_.counter("fail_verify_error")),
      fail_verify_san_(scope_.counter("fail_verify_san")),
      fail_verify_cert_hash_(scope_.counter("fail_verify_cert_hash")),
      staple_requests_(scope_.counter("ocsp_staple_requests")),
      staple_responses_(scope_.counter("ocsp_staple_responses")),
      staple_omitted_(scope_.counter("ocsp_staple_omitted")),
      staple_failed_(scope_.counter("ocsp_staple_failed")),
      key_usage_invalid_(scope_.counter("was_key_usage_invalid")) {}

void TlsStats::onHandshake(const tls::HandshakeReport& report) {
  handshake_.add();
  if (report.resumed) session_reused_.add();
  if (!report.peer_certificate) no_certificate_.add();
  const auto count = [&](const char* kind, std::string_view name) {
    if (!name.empty()) scope_.counter(std::string(kind) + std::string(name)).add();
  };
  count("ciphers.", report.cipher);
  count("versions.", report.version);
  count("curves.", report.group);
  count("sigalgs.", report.signature);
}

void TlsStats::onFailure(tls::Failure failure) {
  switch (failure) {
    case tls::Failure::kProtocol:
      return connection_error_.add();
    case tls::Failure::kNoCertificate:
      return fail_verify_no_cert_.add();
    case tls::Failure::kUntrusted:
      return fail_verify_error_.add();
    case tls::Failure::kSan:
      return fail_verify_san_.add();
    case tls::Failure::kHash:
      return fail_verify_cert_hash_.add();
    case tls::Failure::kTimeout:
      if (timeouts_ != nullptr) timeouts_->add();
      return;
    case tls::Failure::kClosed:
      return;
  }
}

void TlsStats::onStaple(tls::Staple staple) {
  switch (staple) {
    case tls::Staple::kRequested:
      return staple_requests_.add();
    case tls::Staple::kSent:
      return staple_responses_.add();
    case tls::Staple::kOmitted:
      return staple_omitted_.add();
    case tls::Staple::kFailed:
      return staple_failed_.add();
  }
}

}  // namespace postern::stats
