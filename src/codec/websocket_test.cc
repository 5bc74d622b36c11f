#include "codec/websocket.h"

#include <gtest/gtest.h>

namespace postern::codec {
namespace {

// A client frame with mask 1,2,3,4.
std::string masked(int first, std::string_view payload) {
  std::string out{static_cast<char>(first), static_cast<char>(0x80 | payload.size()), 1, 2, 3, 4};
  for (std::size_t i = 0; i < payload.size(); ++i) {
    out.push_back(static_cast<char>(payload[i] ^ static_cast<char>(i % 4 + 1)));
  }
  return out;
}

TEST(WebSocket, JoinsFragmentsAndLetsControlFramesThrough) {
  WebSocketParser parser;
  const std::string bytes = masked(0x02, "ab") + masked(0x89, "hi") + masked(0x80, "cd");
  std::vector<WsMessage> seen;
  for (char c : bytes) {
    parser.feed(std::string_view(&c, 1));
    auto message = parser.next();
    ASSERT_TRUE(message);
    if (*message) seen.push_back(**message);
  }
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].opcode, WsOpcode::kPing);
  EXPECT_EQ(seen[0].payload, "hi");
  EXPECT_EQ(seen[1].opcode, WsOpcode::kBinary);
  EXPECT_EQ(seen[1].payload, "abcd");
}

TEST(WebSocket, RefusesUnmaskedReservedAndStrayContinuation) {
  for (const std::string& bad : {std::string("\x82\x01x", 3), masked(0xc2, "x"), masked(0x83, "x"),
                                 masked(0x80, "x"), masked(0x09, "x")}) {
    WebSocketParser parser;
    parser.feed(bad);
    EXPECT_FALSE(parser.next());
  }
}

TEST(WebSocket, RefusesMessagesOverTheLimit) {
  WebSocketParser parser(4);
  parser.feed(masked(0x02, "abc") + masked(0x80, "de"));
  EXPECT_EQ(parser.next().error().code, base::Errc::kLimitExceeded);
}

TEST(WebSocket, WritesAllThreeLengthForms) {
  EXPECT_EQ(webSocketFrame(WsOpcode::kBinary, "ab"),
            "\x82\x02"
            "ab");
  EXPECT_EQ(webSocketFrame(WsOpcode::kBinary, std::string(200, 'x')).substr(0, 4),
            std::string("\x82\x7e\x00\xc8", 4));
  EXPECT_EQ(webSocketFrame(WsOpcode::kBinary, std::string(70000, 'x')).size(), 70010u);
  EXPECT_EQ(webSocketClose(1000), std::string("\x88\x02\x03\xe8", 4));
}

}  // namespace
}  // namespace postern::codec
