// The OpenSSL side of TicketKeys. Only for .cc files of this folder.
#pragma once

#include "tls/openssl_handles.h"
#include "tls/settings.h"

namespace postern::tls {

/// Makes the context's tickets use these keys, which outlive it.
void useTicketKeys(SSL_CTX* ctx, TicketKeys* keys);

}  // namespace postern::tls
