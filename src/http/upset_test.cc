// A client and a server of ours over a pipe in memory, upset at every callback in turn: a reset, a
// close, a drain or a broken transport, from either side. The sanitizers say the rest.
#include "testing/upset.h"

#include "http/h1_client.h"
#include "http/h1_server.h"
#include "http/h2_client.h"
#include "http/h2_server.h"
#include "testing/pipe.h"

#include <gtest/gtest.h>

#include <tuple>

namespace postern::http {
namespace {

using testing::Moment;
using testing::PipeEnd;
using testing::Upset;
using testing::UpsetClient;
using testing::UpsetServer;

constexpr int kTurnsMax = 5000;

class UpsetTest : public ::testing::TestWithParam<std::tuple<bool, Upset>> {
 protected:
  /// One run; the callbacks that were seen.
  int run(int at) {
    const auto [h2, what] = GetParam();
    event::Loop loop;
    Moment moment{.what = what, .at = at, .seen = 0, .break_transport = nullptr};
    UpsetServer server(moment);
    UpsetClient client(moment, 6);
    auto [near, far] = PipeEnd::makePair(loop);
    PipeEnd* pipe = near.get();
    bool gone = false;
    moment.break_transport = [&] {
      if (!gone) pipe->breakBoth();
      gone = true;
    };
    ServerConnection* in = h2 ? startH2Server(loop, std::move(far), {}, {}, server)
                              : startH1Server(loop, std::move(far), {}, {}, server);
    server.accepted(*in);
    ClientConnection* out = h2 ? startH2Client(loop, std::move(near), {}, client)
                               : startH1Client(loop, std::move(near), {}, client);
    pipe->tellConnected();
    for (int i = 0; i < kTurnsMax && !client.done(); ++i) loop.runOnce();
    EXPECT_TRUE(client.done()) << "hangs when upset at callback " << at;
    if (!client.closed()) out->close();
    for (int i = 0; i < 20; ++i) loop.runOnce();
    server.closeAll();
    for (int i = 0; i < 3; ++i) loop.runOnce();
    EXPECT_TRUE(client.closed()) << at;
    EXPECT_TRUE(client.allOver()) << at;
    EXPECT_TRUE(server.allOver()) << at;
    EXPECT_EQ(server.open(), 0) << at;
    return moment.seen;
  }
};

TEST_P(UpsetTest, EndsEachExchangeOnceAtEveryCallback) {
  const int all = run(0);
  ASSERT_GT(all, 20);
  for (int at = 1; at <= all && !HasFailure(); ++at) run(at);
}

std::string nameOf(const ::testing::TestParamInfo<std::tuple<bool, Upset>>& test) {
  constexpr const char* kNames[] = {"Nothing", "Reset", "Close", "Drain", "Break"};
  return std::string(std::get<0>(test.param) ? "Http2" : "Http1") +
         kNames[static_cast<int>(std::get<1>(test.param))];
}

INSTANTIATE_TEST_SUITE_P(All, UpsetTest,
                         ::testing::Combine(::testing::Bool(),
                                            ::testing::Values(Upset::kReset, Upset::kClose,
                                                              Upset::kDrain, Upset::kBreak)),
                         nameOf);

}  // namespace
}  // namespace postern::http
