// One HTTP/1.1 request over a connection that somebody else made (pods and the node agent live in
// other network namespaces): to a webhook for a whole answer, or to the node for a streamed or
// upgraded one. One loop; ends by itself, tells once.
#pragma once

#include "apiserver/status.h"
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
/// Makes a failure of an answer that is no success: its status and the beginning of its body.
using ErrorAnswer = base::Function<Failure(int status, std::string text)>;
/// Sends and forwards the answer piece by piece to `responder`, no faster than the client takes it;
/// after 101 pipes both ways until both sides ended. Without `error_answer` errors pass as they
/// are.
void exchangeForward(event::Loop& loop, std::unique_ptr<net::Transport> transport,
                     http::ClientRequest request, std::unique_ptr<http::Responder> responder,
                     ErrorAnswer error_answer = {});

}  // namespace postern::apiserver
