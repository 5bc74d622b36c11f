// The pod subresources exec, attach, portforward and log: what is asked of the node, checked as
// Kubernetes checks it before a byte goes there, and how it is reached. One loop.
#pragma once

#include "apiserver/call.h"
#include "apiserver/server.h"
#include "apiserver/status.h"

#include <memory>
#include <string>

namespace postern::apiserver {

bool isPodStream(const Call& call);

/// Path and query at the node's server, as a kubelet takes them: "/exec/ns/pod/container?…". ""
/// when there is nothing to ask: the log of a pod without a node is empty.
ApiResult<std::string> nodeTarget(const Call& call, const Json& pod);

/// Sends a call to the node and its answer back: upgraded, streamed, or as a failure.
void forwardToNode(event::Loop& loop, NodeConnector& node, const Call& call, std::string target,
                   std::unique_ptr<http::Responder> responder);

}  // namespace postern::apiserver
