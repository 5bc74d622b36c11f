// Back-pressure through the whole proxy, and what per_connection_buffer_limit_bytes changes.
#include "proxy/http_fixture_test.h"

namespace postern::proxy {
namespace {

constexpr std::size_t kBodyBytes = 24 << 20;
constexpr std::size_t kStoppedBytes = 16 << 20;  // the kernel's buffers, and a little of ours

class BufferLimitTest : public HttpFixture {
 protected:
  static json toApp(json more = json::object()) {
    json action = {{"cluster", "app"}, {"timeout", "0s"}};
    action.update(more);
    return {{"match", {{"prefix", "/"}}}, {"route", action}};
  }
  /// What `left` says once it has not changed for a while.
  std::size_t settled(base::Function<std::size_t()> left) {
    std::size_t before = left();
    for (int same = 0; same < 20;) {
      loop_.runOnce(std::chrono::milliseconds(5));
      const std::size_t now = left();
      same = now == before ? same + 1 : 0;
      before = now;
    }
    return before;
  }
};

TEST_F(BufferLimitTest, AClientThatStopsReadingStopsTheOrigin) {
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(kBodyBytes) + "\r\n\r\n" +
                 std::string(kBodyBytes, 'b'));
  start(toApp());
  Client client(loop_, port());
  client.pause();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(waitUntil([&] { return origin_.requests() == 1; }));
  EXPECT_GT(settled([&] { return origin_.unsent(); }), kBodyBytes - kStoppedBytes);
  client.goOn();
  EXPECT_TRUE(client.waitForAnswer());
  EXPECT_EQ(origin_.unsent(), 0U);
}

TEST_F(BufferLimitTest, AnOriginThatStopsReadingStopsTheClient) {
  origin_.pause();
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  start(toApp());
  Client client(loop_, port());
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(kBodyBytes) +
              "\r\n\r\n" + std::string(kBodyBytes, 'b'));
  ASSERT_TRUE(waitUntil([&] { return origin_.connections() == 1; }));
  EXPECT_GT(settled([&] { return client.unsent(); }), kBodyBytes - kStoppedBytes);
  origin_.goOn();
  EXPECT_TRUE(client.waitForAnswer());
  EXPECT_EQ(statusOf(client.received()), 200);
}

TEST_F(BufferLimitTest, TheListenersLimitIsWhatIsKeptForAnotherAttempt) {
  for (const std::size_t limit : {1000U, 4000U, 0U}) {  // 0: none
    listener_["per_connection_buffer_limit_bytes"] = limit;
    origin_.answer("HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n");
    origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    start(toApp({{"retry_policy", {{"retry_on", "5xx"}}}}));
    const std::string answer = exchange(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n" + std::string(2000, 'b'));
    EXPECT_EQ(statusOf(answer), limit == 1000U ? 503 : 200);
    EXPECT_EQ(stats_.value("cluster.app.retry_or_shadow_abandoned"), 1) << limit;
    if (limit == 1000) exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");  // takes the other answer
  }
}

TEST_F(BufferLimitTest, AClustersLimitOfZeroIsNone) {
  start(toApp());
  const std::size_t before = store_->snapshot().clusters.at("app").config->buffer_bytes_max;
  cluster_["per_connection_buffer_limit_bytes"] = 0;
  start(toApp());
  EXPECT_EQ(store_->snapshot().clusters.at("app").config->buffer_bytes_max, before);
}

TEST_F(BufferLimitTest, TheClustersLimitIsOfNoRequestsBody) {
  cluster_["per_connection_buffer_limit_bytes"] = 1;
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  start(toApp());
  const std::size_t bytes = 300'000;
  const std::string answer = exchange(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + std::string(bytes, 'b'));
  EXPECT_EQ(statusOf(answer), 200);
  EXPECT_TRUE(origin_.request(0).ends_with(std::string(bytes, 'b')));
}

}  // namespace
}  // namespace postern::proxy
