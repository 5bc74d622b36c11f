// The address by which this machine is known to others.
#pragma once

#include <string>

namespace postern::net {

/// The first IPv4 address of an interface that is up and not a loopback, without port; "127.0.0.1"
/// when there is none. Asks the kernel each time.
std::string machineIp();

}  // namespace postern::net
