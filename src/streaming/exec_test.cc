#include "json/json.h"
#include "streaming/exec_session.h"
#include "streaming/test_client.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace postern::streaming {
namespace {

/// An exec over SPDY with the streams that `flags` names, opened in kubectl's order.
struct SpdyExecTest : ::testing::Test {
  TestNode node;
  TestClient wire{node};
  SpdyClient spdy{wire};
  enum : std::uint32_t { kError = 1, kStdin = 3, kStdout = 5, kStderr = 7, kResize = 9 };

  void run(const std::string& script, bool with_stdin = false, bool tty = false) {
    std::string target = "/exec/default/p/c?output=1&command=sh&command=-c&command=" + script;
    target += with_stdin ? "&input=1" : "";
    target += tty ? "&tty=1" : "&error=1";
    std::string head = wire.ask("POST", target, kSpdyHeaders);
    ASSERT_TRUE(head.starts_with("HTTP/1.1 101")) << head;
    EXPECT_NE(head.find("x-stream-protocol-version: v4.channel.k8s.io\r\n"), std::string::npos);
    spdy.open(kError, {{"streamtype", "error"}});
    if (with_stdin) spdy.open(kStdin, {{"streamtype", "stdin"}});
    spdy.open(kStdout, {{"streamtype", "stdout"}});
    if (!tty) spdy.open(kStderr, {{"streamtype", "stderr"}});
    if (tty) spdy.open(kResize, {{"streamtype", "resize"}});
  }
  json::Json status() { return json::parse(spdy.data[kError]).value_or(json::Json()); }
  bool finished() {
    return spdy.until([&] { return spdy.ended.contains(kError); });
  }
};

TEST_F(SpdyExecTest, RunsACommandAndTellsItsExitCode) {
  run("echo+out;echo+err+>%262;exit+3");
  ASSERT_TRUE(finished());
  EXPECT_EQ(spdy.data[kStdout], "out\n");
  EXPECT_EQ(spdy.data[kStderr], "err\n");
  EXPECT_TRUE(spdy.ended.contains(kStdout) && spdy.ended.contains(kStderr));
  EXPECT_EQ(status()["status"], "Failure");
  EXPECT_EQ(status()["reason"], "NonZeroExitCode");
  EXPECT_EQ(status()["details"]["causes"][0]["reason"], "ExitCode");
  EXPECT_EQ(status()["details"]["causes"][0]["message"], "3");
  // The client ends the connection; then nothing of it is left here.
  wire.send(codec::SpdyWriter::goAway(0));
  EXPECT_TRUE(wire.until([&] { return wire.ended; }));
  EXPECT_EQ(node.streams->sessions(), 0U);
}

TEST_F(SpdyExecTest, InputEndsWithItsStream) {
  run("cat", true);
  spdy.write(kStdin, "one ");
  spdy.write(kStdin, "two", true);
  ASSERT_TRUE(finished());
  EXPECT_EQ(spdy.data[kStdout], "one two");
  EXPECT_EQ(status()["status"], "Success");
}

TEST_F(SpdyExecTest, TerminalHasTheClientsSize) {
  run("stty+size;tty+-s%26%26echo+yes;read+x;stty+size", true, true);
  spdy.write(kResize, "{\"Width\":101,\"Height\":33}\n{\"Width\":10");
  ASSERT_TRUE(spdy.until([&] { return spdy.data[kStdout].find("yes") != std::string::npos; }));
  spdy.write(kResize, "2,\"Height\":34}\n");
  spdy.write(kStdin, "go\n");
  ASSERT_TRUE(finished());
  EXPECT_NE(spdy.data[kStdout].find("34 102"), std::string::npos) << spdy.data[kStdout];
}

TEST_F(SpdyExecTest, StdioIsPipesThatCanBeOpenedByName) {
  run("echo+named>/dev/stderr");
  ASSERT_TRUE(finished());
  EXPECT_EQ(spdy.data[kStderr], "named\n");
}

TEST_F(SpdyExecTest, ProcessThatCannotStartIsAFailure) {
  std::string head =
      wire.ask("POST", "/exec/default/p/c?output=1&command=no-such-program", kSpdyHeaders);
  ASSERT_TRUE(head.starts_with("HTTP/1.1 101"));
  spdy.open(kError, {{"streamtype", "error"}});
  spdy.open(kStdout, {{"streamtype", "stdout"}});
  ASSERT_TRUE(finished());
  EXPECT_EQ(status()["reason"], "InternalError");
  EXPECT_NE(json::stringAt(status(), "message").find("no-such-program"), std::string::npos);
}

TEST_F(SpdyExecTest, ClientThatGoesAwayEndsTheProcess) {
  run("sleep+1000");
  ASSERT_TRUE(spdy.until([&] { return node.backend.running == 1; }));
  wire.hangUp();
  EXPECT_TRUE(wire.until([&] { return node.backend.running == 0; }));
  EXPECT_EQ(node.backend.abandoned, 1);
}

TEST_F(SpdyExecTest, SlowClientHoldsTheProcess) {
  run("head+-c+50000000+/dev/zero");
  wire.turn(1000);
  // What nobody read is in bounded buffers: the process could not end.
  EXPECT_EQ(node.backend.running, 1);
  ASSERT_TRUE(finished());
  EXPECT_EQ(spdy.data[kStdout].size(), 50000000U);
}

TEST_F(SpdyExecTest, SlowProcessHoldsTheClient) {
  const std::filesystem::path go =
      std::filesystem::path(::testing::TempDir()) / ("exec_test_go." + std::to_string(::getpid()));
  std::filesystem::remove(go);
  run("until+test+-e+" + go.string() + ";do+sleep+0.02;done;cat|wc+-c", true);
  const std::string piece(65536, 'x');
  for (int i = 0; i < 160; ++i) spdy.write(kStdin, piece);
  wire.turn(500);
  // Of 10 MiB about one is here, and little more in the kernel.
  EXPECT_GT(wire.unsent(), 8 * ExecSession::kInputBytesMax);
  std::ofstream(go).put('\n');
  spdy.write(kStdin, "end", true);
  ASSERT_TRUE(finished());
  std::filesystem::remove(go);
  EXPECT_EQ(spdy.data[kStdout], std::to_string(160 * 65536 + 3) + "\n");
}

TEST_F(SpdyExecTest, InputOfAProcessThatReadsNothingIsDropped) {
  run("exec+<%26-;sleep+0.2;echo+done", true);
  const std::string piece(65536, 'x');
  for (int i = 0; i < 100; ++i) spdy.write(kStdin, piece);
  ASSERT_TRUE(finished());
  EXPECT_EQ(spdy.data[kStdout], "done\n");
}

TEST_F(SpdyExecTest, BackgroundProcessDoesNotHoldTheEnd) {
  run("sleep+4%26echo+done");
  ASSERT_TRUE(finished());
  EXPECT_EQ(spdy.data[kStdout], "done\n");
  EXPECT_EQ(status()["status"], "Success");
}

TEST_F(SpdyExecTest, OnlyAnnouncedStreamsMayBeOpened) {
  run("cat+/dev/zero");
  spdy.open(11, {{"streamtype", "stdin"}});
  spdy.open(13, {{"streamtype", "stdout"}});
  spdy.open(15, {{"streamtype", "secret"}});
  ASSERT_TRUE(spdy.until([&] { return spdy.reset.size() == 3; }));
  EXPECT_EQ(spdy.reset[11], static_cast<std::uint32_t>(codec::SpdyStatus::kRefusedStream));
}

TEST_F(SpdyExecTest, AnswersPings) {
  run("sleep+1000");
  wire.send(codec::SpdyWriter::ping(1));
  wire.send(codec::SpdyWriter::ping(2));  // an answer to none of ours
  wire.send(codec::SpdyWriter::ping(3));
  ASSERT_TRUE(spdy.until([&] { return spdy.pings.contains(3); }));
  EXPECT_EQ(spdy.pings, (std::set<std::uint32_t>{1, 3}));
}

TEST_F(SpdyExecTest, BrokenProtocolEndsTheProcess) {
  run("sleep+1000");
  ASSERT_TRUE(spdy.until([&] { return node.backend.running == 1; }));
  wire.send(std::string(100, '\xff'));  // a control frame of another version
  EXPECT_TRUE(wire.until([&] { return node.backend.running == 0; }));
}

TEST_F(SpdyExecTest, AttachTellsNoExitCode) {
  node.backend.attach_command = {"sh", "-c", "cat; exit 5"};
  std::string head = wire.ask("POST", "/attach/default/p/c?input=1&output=1", kSpdyHeaders);
  ASSERT_TRUE(head.starts_with("HTTP/1.1 101"));
  spdy.open(kError, {{"streamtype", "error"}});
  spdy.open(kStdin, {{"streamtype", "stdin"}});
  spdy.open(kStdout, {{"streamtype", "stdout"}});
  spdy.write(kStdin, "hello", true);
  ASSERT_TRUE(finished());
  EXPECT_EQ(spdy.data[kStdout], "hello");
  EXPECT_EQ(status()["status"], "Success");
}

/// An exec over WebSocket.
struct WebSocketExecTest : ::testing::Test {
  TestNode node;
  TestClient wire{node};
  WebSocketClient socket{wire};

  void run(const std::string& script, const std::string& headers = kWebSocketHeaders) {
    std::string head = wire.ask(
        "GET", "/exec/default/p/c?input=1&output=1&error=1&command=sh&command=-c&command=" + script,
        headers);
    ASSERT_TRUE(head.starts_with("HTTP/1.1 101")) << head;
    // RFC 6455's own example.
    EXPECT_NE(head.find("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
              std::string::npos);
  }
  json::Json status() { return json::parse(socket.channels[3]).value_or(json::Json()); }
};

TEST_F(WebSocketExecTest, RunsACommandAndCloses) {
  run("echo+out;echo+err+>%262;exit+3");
  ASSERT_TRUE(socket.until([&] { return socket.close_code != 0; }));
  EXPECT_EQ(socket.close_code, 1000);
  EXPECT_EQ(socket.channels[1], "out\n");
  EXPECT_EQ(socket.channels[2], "err\n");
  EXPECT_EQ(status()["details"]["causes"][0]["message"], "3");
  socket.frame(8, std::string("\x03\xe8", 2));
  EXPECT_TRUE(wire.until([&] { return wire.ended; }));
  EXPECT_EQ(node.streams->sessions(), 0U);
}

TEST_F(WebSocketExecTest, InputIsHalfClosedByTheCloseSignal) {
  run("cat");
  socket.write(0, "one ");
  socket.write(0, "two");
  socket.write(255, std::string(1, '\0'));
  ASSERT_TRUE(socket.until([&] { return socket.close_code != 0; }));
  EXPECT_EQ(socket.channels[1], "one two");
  EXPECT_EQ(status()["status"], "Success");
}

TEST_F(WebSocketExecTest, VersionFourHasNoCloseSignal) {
  run("cat",
      "Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
      "Sec-WebSocket-Protocol: channel.k8s.io, v4.channel.k8s.io\r\n");
  socket.write(0, "one");
  socket.write(255, std::string(1, '\0'));
  socket.write(0, " two");
  EXPECT_TRUE(socket.until([&] { return socket.channels[1] == "one two"; }));
  EXPECT_EQ(node.backend.running, 1);
}

TEST_F(WebSocketExecTest, AnswersPingsAndEmptyMessages) {
  run("cat");
  socket.frame(2, "");
  socket.frame(9, "beat");
  EXPECT_TRUE(socket.until([&] { return socket.last_pong == "beat"; }));
}

TEST_F(WebSocketExecTest, BrokenProtocolEndsTheProcess) {
  run("sleep+1000");
  ASSERT_TRUE(socket.until([&] { return node.backend.running == 1; }));
  wire.send(std::string("\x82\x01x", 3));  // not masked
  EXPECT_TRUE(socket.until([&] { return node.backend.running == 0; }));
  EXPECT_EQ(socket.close_code, 1002);
}

TEST_F(WebSocketExecTest, ClosingInTheMiddleEndsTheProcess) {
  run("sleep+1000");
  ASSERT_TRUE(socket.until([&] { return node.backend.running == 1; }));
  socket.frame(8, std::string("\x03\xe8", 2));
  EXPECT_TRUE(socket.until([&] { return node.backend.running == 0; }));
}

TEST(Streaming, RefusesBeforeTheUpgrade) {
  TestNode node;
  const std::string spdy = kSpdyHeaders;
  const std::string web = kWebSocketHeaders;
  const struct {
    const char* method;
    const char* target;
    std::string headers;
    const char* status;
    const char* text;
  } cases[] = {
      {"POST", "/exec/default/q/c?output=1&command=a", spdy, "404", "pod does not exist"},
      {"POST", "/exec/default/p/x?output=1&command=a", spdy, "404", "container not found (\"x\")"},
      {"POST", "/exec/default/p/c?command=a", spdy, "400", "at least 1 of stdin, stdout, stderr"},
      {"POST", "/exec/default/p/c?output=1", spdy, "400", "specify a command"},
      {"POST", "/exec/default/p/c?output=1&command=a", "", "400", "missing upgrade headers"},
      {"PUT", "/exec/default/p/c?output=1&command=a", "content-length: 0\r\n", "405", "method"},
      {"POST", "/exec/default/p/c?output=1&command=a",
       "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9\r\n", "403",
       "client supports [v9], server accepts [v4.channel.k8s.io]"},
      {"GET", "/portForward/default/p", web, "403", "unable to negotiate protocol"},
      {"GET", "/exec/default/p/c?output=1&command=a",
       "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n"
       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
       "426", "version 13"},
      {"GET", "/exec/default/p/c?output=1&command=a",
       "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
       "Sec-WebSocket-Key: short\r\n",
       "400", "malformed"},
      {"GET", "/exec/default/p", spdy, "404", "not ours"},
      {"GET", "/pods", "", "404", "not ours"},
  };
  for (const auto& c : cases) {
    TestClient wire(node);
    std::string answer = wire.ask(c.method, c.target, c.headers);
    EXPECT_TRUE(answer.starts_with(std::string("HTTP/1.1 ") + c.status)) << c.target << answer;
    EXPECT_NE(answer.find(c.text), std::string::npos) << answer;
  }
  EXPECT_EQ(node.streams->sessions(), 0U);
}

TEST(Streaming, ExitStatusesAreThoseOfKubernetes) {
  EXPECT_EQ(exitStatus(0), R"({"metadata":{},"status":"Success"})");
  auto failure = *json::parse(failureStatus("bad \xff byte"));
  EXPECT_EQ(failure["reason"], "InternalError");
  EXPECT_EQ(failure["code"], 500);
}

}  // namespace
}  // namespace postern::streaming
