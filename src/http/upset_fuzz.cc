// A client and a server of ours over a pipe in memory, where the input says after how many
// callbacks the next stream is reset, or its connection closed, drained or broken, again and again.
// Each exchange ends exactly once, nothing hangs, nothing is left. (http/upset_test.cc and
// proxy/upset_test.cc try every callback in turn, one upset a run.) The first byte chooses the
// protocol (its lowest bit) and how many exchanges there are; then come pairs: what, and how many
// callbacks after the one before.
#include "base/check.h"
#include "http/h1_client.h"
#include "http/h1_server.h"
#include "http/h2_client.h"
#include "http/h2_server.h"
#include "testing/pipe.h"
#include "testing/upset.h"

#include <algorithm>
#include <cstdint>

namespace {

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own
using testing::Moment;
using testing::PipeEnd;
using testing::Upset;
using testing::UpsetClient;
using testing::UpsetServer;

constexpr int kTurnsMax = 20'000;

void run(bool h2, std::size_t exchanges, Moment moment) {
  event::Loop loop;
  UpsetServer server(moment);
  UpsetClient client(moment, exchanges);
  auto [near, far] = PipeEnd::makePair(loop);
  PipeEnd* pipe = near.get();
  bool gone = false;
  moment.break_transport = [&] {
    if (!gone && !client.closed()) pipe->breakBoth();
    gone = true;
  };
  http::ServerConnection* in = h2 ? http::startH2Server(loop, std::move(far), {}, {}, server)
                                  : http::startH1Server(loop, std::move(far), {}, {}, server);
  server.accepted(*in);
  http::ClientConnection* out = h2 ? http::startH2Client(loop, std::move(near), {}, client)
                                   : http::startH1Client(loop, std::move(near), {}, client);
  pipe->tellConnected();
  for (int i = 0; i < kTurnsMax && !client.done(); ++i) loop.runOnce();
  POSTERN_CHECK(client.done());
  if (!client.closed()) out->close();
  for (int i = 0; i < 20; ++i) loop.runOnce();
  server.closeAll();
  for (int i = 0; i < 3; ++i) loop.runOnce();
  POSTERN_CHECK(client.closed() && client.allOver());
  POSTERN_CHECK(server.allOver() && server.open() == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3 || size > 200) return 0;
  Moment moment{.what = Upset::kNothing, .at = 0, .seen = 0, .break_transport = nullptr};
  for (std::size_t i = 1; i + 1 < size; i += 2)
    moment.more.emplace_back(static_cast<Upset>(data[i] % 5), data[i + 1]);
  std::reverse(moment.more.begin(), moment.more.end());
  run((data[0] & 1) != 0, 1 + data[0] / 2 % 12U, std::move(moment));
  return 0;
}
