// The two halves of LDS. Internal to this folder.
#pragma once

#include "discovery/generate.h"

namespace postern::discovery {

std::vector<Resource> gatewayListenerResources(View& view);
std::vector<Resource> outboundListenerResources(View& view);
/// virtualOutbound and virtualInbound.
std::vector<Resource> virtualListenerResources(View& view);

}  // namespace postern::discovery
