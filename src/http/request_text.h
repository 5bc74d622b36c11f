// What the texts of a request say: the parts of its target and of its authority, and whether it is
// gRPC. Pure functions over views.
#pragma once

#include "http/headers.h"

#include <string_view>

namespace postern::http {

/// The path of ":path" without query and fragment.
std::string_view pathOnly(std::string_view target);
/// "host:80" → "host"; a bare IPv6 address keeps its colons.
std::string_view withoutPort(std::string_view host);
/// content-type is application/grpc or application/grpc+x.
bool isGrpc(const HeaderMap& headers);
/// The first value of a parameter, or nothing.
bool queryParameter(std::string_view query, std::string_view name, std::string_view& value);

}  // namespace postern::http
