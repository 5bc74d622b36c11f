// The x-forwarded-client-cert header.
#pragma once

#include "net/transport.h"
#include "proxy/http_config.h"

namespace postern::proxy {

/// Forwards, replaces, extends or removes the header as the manager's mode says. Without a verified
/// client certificate only ALWAYS_FORWARD_ONLY keeps it.
void forwardCertificate(const HttpManager& config, const net::PeerInfo& peer,
                        http::HeaderMap& headers);

}  // namespace postern::proxy
