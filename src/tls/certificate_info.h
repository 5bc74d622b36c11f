// Reading certificates: names, fingerprints, times. Only for .cc files of this folder.
#pragma once

#include "net/transport.h"
#include "tls/openssl_handles.h"
#include "tls/settings.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postern::tls {

/// Since 1970; 0: none.
std::int64_t secondsOf(const ASN1_TIME* time);
net::CertificateInfo describe(X509* certificate);
/// The peer's certificate, its chain and its subject's parts.
void describePeer(SSL* ssl, net::PeerInfo& out);

/// The subject alternative names of one type; `oid` only for kOther. A name with a NUL inside is an
/// attack on those who compare it as text, and is left out.
std::vector<std::string> sanNames(X509* certificate, SanType type, const std::string& oid = "");
/// All of them in the certificate's order, as "[a, b]", cut after some.
std::string sanList(X509* certificate);
/// RFC 6125 6.4.3: the certificate's name may have "*" as its whole first label.
bool dnsNameMatches(std::string_view name, std::string_view pattern);
std::string sha256Of(X509* certificate);    // raw
std::string spkiSha256(X509* certificate);  // raw

}  // namespace postern::tls
