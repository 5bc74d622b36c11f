// Whole HTTP/1 connections against hostile bytes, see testing/fuzz_session.h.
#include "http/h1_client.h"
#include "http/h1_server.h"
#include "testing/fuzz_session.h"

namespace {

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own
using http::End;

void ask(testing::FuzzPeer& peer) {
  constexpr const char* kMethods[] = {"GET", "POST", "HEAD", "CONNECT"};
  const End end = peer.number % 4 == 1 ? End::kNo : End::kYes;
  peer.stream->sendHeaders({{":method", kMethods[peer.number % 4]},
                            {":scheme", "http"},
                            {":path", "/"},
                            {":authority", "a"}},
                           end);
  if (end == End::kYes) return;
  base::Buffer body(std::string(peer.number * 3000U, 'q'));
  peer.stream->sendData(body, End::kYes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < testing::FuzzSession::kInputBytesMin) return 0;
  testing::FuzzSession session(data, size, ask);
  if (session.server()) {
    session.serve(http::startH1Server(session.loop, session.transport(), {}, {}, session.owner));
  } else {
    session.call(http::startH1Client(session.loop, session.transport(), {}, session.owner));
  }
  session.run();
  return 0;
}
