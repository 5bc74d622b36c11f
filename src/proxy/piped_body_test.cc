// Large bodies of HTTP/1, which pass by splice: both ways, in every framing, with ends of all
// kinds.
#include "codec/h1_parser.h"
#include "proxy/http_fixture_test.h"

#include <filesystem>

#include <sys/socket.h>

namespace postern::proxy {
namespace {

std::string pattern(std::size_t size) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i * 131 >> 7);
  return out;
}

std::ptrdiff_t openPipes() {
  std::ptrdiff_t count = 0;
  for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(each.path(), gone);
    if (!gone && target.string().starts_with("pipe:")) ++count;
  }
  return count;
}

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

class PipedBodyTest : public HttpFixture {
 protected:
  PipedBodyTest() { format_ = "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT%\n"; }
  void start() {
    HttpFixture::start({{"match", {{"prefix", "/"}}}, {"route", {{"cluster", "app"}}}});
  }
  static std::string sized(std::string_view body) {
    return "HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" +
           std::string(body);
  }
  /// What follows the first head.
  static std::string bodyOf(const Client& client) {
    const std::size_t head = client.received().find("\r\n\r\n");
    return head == std::string::npos ? "" : client.received().substr(head + 4);
  }
  /// Every pipe is back and empty; at least one was used.
  void expectPipesBack(std::ptrdiff_t before) {
    EXPECT_GE(worker_->pipes().idle(), 1U);
    EXPECT_EQ(openPipes(), before + 2 * static_cast<std::ptrdiff_t>(worker_->pipes().idle()));
  }

  const std::string much_ = pattern(3 << 20);
};

TEST_F(PipedBodyTest, AnswerOfKnownLengthAndTheRequestBehindIt) {
  start();
  const std::ptrdiff_t before = openPipes();
  origin_.answer(sized(much_));
  origin_.answer(sized("next"));
  Client client(loop_, port());
  client.send(std::string(kGet) + std::string(kGet));
  ASSERT_TRUE(client.waitFor("\r\n\r\nnext"));
  EXPECT_TRUE(bodyOf(client).starts_with(much_));
  EXPECT_TRUE(bodyOf(client).substr(much_.size()).starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_EQ(origin_.connections(), 1U);
  expectPipesBack(before);
  EXPECT_EQ(log(), "200 - 0 3145728\n200 - 0 4\n");
}

TEST_F(PipedBodyTest, ChunkedAnswerWithTrailers) {
  const json trailers = {{"enable_trailers", true}};
  manager_["http_protocol_options"] = trailers;
  const std::string options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  cluster_["typed_extension_protocol_options"][options] = {
      {"@type", "type.googleapis.com/" + options},
      {"explicit_http_config", {{"http_protocol_options", trailers}}}};
  start();
  const std::ptrdiff_t before = openPipes();
  const std::string large = much_.substr(0, 500000);
  origin_.answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7a120;x=y\r\n" + large +
                 "\r\n3\r\nabc\r\n7a120\r\n" + large + "\r\n0\r\nx-sum: 7\r\n\r\n");
  origin_.answer(sized("next"));
  Client client(loop_, port());
  client.send(kGet);
  ASSERT_TRUE(client.waitFor("x-sum: 7\r\n\r\n"));
  codec::H1ChunkDecoder decoder{{}};
  const std::string wire = bodyOf(client);
  std::string content;
  auto event = codec::H1ChunkDecoder::Event::kData;
  for (std::string_view left = wire; event == codec::H1ChunkDecoder::Event::kData;) {
    std::size_t consumed = 0;
    std::string_view data;
    event = decoder.next(left, consumed, data);
    if (event == codec::H1ChunkDecoder::Event::kData) content += data;
    left.remove_prefix(consumed);
  }
  EXPECT_EQ(event, codec::H1ChunkDecoder::Event::kEnd);
  EXPECT_TRUE(content == large + "abc" + large);
  client.send(kGet);
  EXPECT_TRUE(client.waitFor("\r\n\r\nnext"));
  EXPECT_EQ(origin_.connections(), 1U);
  expectPipesBack(before);
}

TEST_F(PipedBodyTest, AnswerUntilTheEnd) {
  manager_["http_protocol_options"] = {{"accept_http_10", true}};
  start();
  const std::ptrdiff_t before = openPipes();
  origin_.answer("HTTP/1.1 200 OK\r\n\r\n" + much_);
  Client client(loop_, port());
  client.send("GET / HTTP/1.0\r\nhost: h\r\n\r\n");
  ASSERT_TRUE(client.waitFor("\r\n\r\n"));
  ASSERT_TRUE(waitUntil([&] { return bodyOf(client).size() >= much_.size(); }));
  EXPECT_FALSE(client.ended());
  origin_.closeAll();
  ASSERT_TRUE(waitUntil([&] { return client.ended(); }));
  EXPECT_TRUE(bodyOf(client) == much_);
  expectPipesBack(before);
  EXPECT_EQ(log(), "200 - 0 3145728\n");
}

TEST_F(PipedBodyTest, RequestAndTheOneBehindIt) {
  start();
  const std::ptrdiff_t before = openPipes();
  origin_.answer(sized("first"));
  origin_.answer(sized("second"));
  Client client(loop_, port());
  client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: " + std::to_string(much_.size()) +
              "\r\n\r\n" + much_ + std::string(kGet));
  ASSERT_TRUE(client.waitFor("\r\n\r\nsecond"));
  ASSERT_EQ(origin_.requests(), 2U);
  EXPECT_TRUE(origin_.request(0).ends_with("\r\n\r\n" + much_));
  EXPECT_TRUE(origin_.request(1).starts_with("GET / HTTP/1.1\r\n"));
  expectPipesBack(before);
  EXPECT_EQ(log(), "200 - 3145728 5\n200 - 0 6\n");
}

TEST_F(PipedBodyTest, AClientThatStopsReadingAndLeaves) {
  start();
  const std::ptrdiff_t before = openPipes();
  origin_.answer(sized(pattern(40 << 20)));
  auto address = net::Address::loopback(port());
  base::Fd slow(::socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(::connect(slow.get(), address.sockaddrPtr(), address.length()), 0);
  ASSERT_EQ(::send(slow.get(), kGet.data(), kGet.size(), 0), static_cast<ssize_t>(kGet.size()));
  // The kernel's buffers fill; then one pipe holds what is left.
  ASSERT_TRUE(waitUntil([&] { return openPipes() == before + 2; }));
  for (int i = 0; i < 100; ++i) loop_.runOnce(std::chrono::milliseconds(1));
  EXPECT_EQ(openPipes(), before + 2);
  EXPECT_EQ(worker_->pipes().idle(), 0U);
  slow.reset();
  ASSERT_TRUE(waitUntil([&] { return origin_.closed() == 1; }));
  EXPECT_TRUE(log().starts_with("200 DC 0 "));
  EXPECT_EQ(openPipes(), before);
}

TEST_F(PipedBodyTest, AnOriginThatBreaksOff) {
  start();
  const std::ptrdiff_t before = openPipes();
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + much_);
  Client client(loop_, port());
  client.send(kGet);
  ASSERT_TRUE(waitUntil([&] { return bodyOf(client).size() >= much_.size(); }));
  origin_.closeAll();
  ASSERT_TRUE(waitUntil([&] { return client.ended(); }));
  EXPECT_TRUE(bodyOf(client) == much_);
  expectPipesBack(before);
  EXPECT_EQ(log(), "200 UPE 0 3145728\n");
}

TEST_F(PipedBodyTest, BytesBehindAnAnswerAreNobodys) {
  start();
  origin_.answer(sized(much_) + "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
  origin_.answer(sized("good"));
  Client client(loop_, port());
  client.send(kGet);
  ASSERT_TRUE(waitUntil([&] { return bodyOf(client).size() >= much_.size(); }));
  client.send(kGet);
  ASSERT_TRUE(client.waitFor("\r\n\r\ngood"));
  EXPECT_EQ(client.received().find("evil"), std::string::npos);
  EXPECT_EQ(origin_.connections(), 2U);
}

}  // namespace
}  // namespace postern::proxy
