// The operators of formats that tell about TLS: DOWNSTREAM_TLS_…, DOWNSTREAM_PEER_…,
// UPSTREAM_LOCAL_… and their like. Pure.
#pragma once

#include "net/transport.h"

#include <string>
#include <string_view>

namespace postern::formatter {

/// Appends a value; false and nothing appended when there is none. `format` is a time format or "".
using TlsValue = bool (*)(std::string& out, const net::PeerInfo& peer, const std::string& format);

struct TlsOperator {
  TlsValue value = nullptr;  // null: no such operator
  bool upstream = false;
  bool takes_format = false;  // of a time
};
TlsOperator findTlsOperator(std::string_view name);

}  // namespace postern::formatter
