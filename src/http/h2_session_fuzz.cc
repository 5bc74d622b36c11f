// Whole HTTP/2 connections against hostile bytes, see testing/fuzz_session.h.
#include "http/h2_client.h"
#include "http/h2_server.h"
#include "testing/fuzz_session.h"

namespace {

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own
using http::End;

void ask(testing::FuzzPeer& peer) {
  peer.stream->sendHeaders(
      {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}, End::kNo);
  base::Buffer body(std::string(peer.number * 3000U, 'q'));
  peer.stream->sendData(body, End::kYes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < testing::FuzzSession::kInputBytesMin) return 0;
  testing::FuzzSession session(data, size, ask);
  if (session.server()) {
    session.serve(http::startH2Server(session.loop, session.transport(), {},
                                      {.h2 = {.concurrent_streams_max = 20}}, session.owner));
    session.wire.to_us.append(codec::kH2Preface);
  } else {
    session.call(http::startH2Client(session.loop, session.transport(), {}, session.owner));
  }
  codec::writeH2Settings(session.wire.to_us, {});
  session.run();
  return 0;
}
