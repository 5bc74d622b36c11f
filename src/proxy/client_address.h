// Whose address a request counts as coming from, and x-forwarded-for. Internal to forwarding.
#pragma once

#include "proxy/forwarding.h"

namespace postern::proxy {

/// Fills trusted_ip, internal and reject_status of `out`; extends x-forwarded-for. `has_list`: the
/// request has an x-forwarded-for.
void findClientAddress(const HttpManager& config, const RequestSource& source, bool has_list,
                       http::HeaderMap& headers, ForwardingResult& out);

}  // namespace postern::proxy
