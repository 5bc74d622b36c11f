// One HTTP/1.1 request over a connection that somebody else made (pods and the node agent live in
// other network namespaces): to a webhook for a whole answer, or to the node for a streamed or
// upgraded one. One loop; ends by itself, tells once.
#pragma once

#include "base/function.h"
#include "http/client.h"

#include <chrono>
#include <memory>
#include <string>

namespace postern::apiserver {

using WholeAnswer = base::Function<void(base::Result<http::ClientResponse>)>;

/// Sends and calls back once with the whole answer, in a later turn.
void exchangeWhole(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                   http::ClientRequest request, WholeAnswer done);
/// Sends and forwards the answer piece by piece to `responder`; after 101 pipes both ways until
/// both sides ended.
void exchangeForward(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                     http::ClientRequest request, std::unique_ptr<http::Responder> responder);

}  // namespace postern::apiserver
