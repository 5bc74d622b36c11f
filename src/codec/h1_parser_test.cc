#include "codec/h1_parser.h"

#include <gtest/gtest.h>

namespace postern::codec {
namespace {

using Status = H1HeadParser::Status;
using Role = H1HeadParser::Role;

Status parseAll(H1HeadParser& parser, std::string_view bytes) {
  std::size_t consumed = 0;
  return parser.feed(bytes, consumed);
}

TEST(H1Request, ParsesWholeAndBytewiseAlike) {
  const std::string text =
      "\r\nPOST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nX-A:  v \r\n\r\nabc";
  for (std::size_t piece : {text.size(), std::size_t{1}, std::size_t{2}, std::size_t{7}}) {
    H1HeadParser parser(Role::kRequest, {});
    Status status = Status::kNeedMore;
    std::size_t at = 0;
    while (status == Status::kNeedMore && at < text.size()) {
      std::string chunk = text.substr(at, piece);
      std::size_t consumed = 0;
      status = parser.feed(chunk, consumed);
      at += consumed;
      if (status != Status::kDone) continue;
      const H1Head& head = parser.head();
      EXPECT_EQ(head.method, "POST");
      EXPECT_EQ(head.target, "/a?b=c");
      ASSERT_EQ(head.fields.size(), 3u);
      EXPECT_EQ(head.fields[2].value, "v");
      EXPECT_EQ(head.body, H1Body::kLength);
      EXPECT_EQ(head.content_length, 3u);
    }
    ASSERT_EQ(status, Status::kDone) << piece;
    EXPECT_EQ(text.substr(at), "abc");
  }
}

TEST(H1Request, RefusesWhatOthersReadDifferently) {
  struct Case {
    const char* text;
    int status;
  };
  const Case cases[] = {
      {"GET / HTTP/1.1\nHost: x\n\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\n\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400},
      {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 426},
      {"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
       400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1,1\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
       "chunked\r\n\r\n",
       501},
      {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
  };
  for (const Case& each : cases) {
    H1HeadParser parser(Role::kRequest, {});
    EXPECT_EQ(parseAll(parser, each.text), Status::kError) << each.text;
    EXPECT_EQ(parser.refusal().status, each.status) << each.text;
  }
  H1HeadParser parser(Role::kRequest, {});
  const char nul[] = "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n";
  EXPECT_EQ(parseAll(parser, std::string_view(nul, sizeof nul - 1)), Status::kError);
}

TEST(H1Request, SaysWhyAsEnvoyNamesIt) {
  struct Case {
    const char* text;
    const char* details;
    int status;
  };
  const Case cases[] = {
      {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "low_version", 426},
      {"GET / HTTP/1.0\r\n\r\n", "low_version", 426},
      {"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", "http1.codec_error", 400},
      {"PRI * HTTP/2.0\r\n\r\n", "http1.codec_error", 400},
      {"GET /\x07 HTTP/1.1\r\nHost: x\r\n\r\n", "http1.invalid_characters", 400},
      {"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "http1.invalid_scheme", 400},
      {"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", "http1.invalid_url", 400},
      {"GET http://u@h/a HTTP/1.1\r\nHost: x\r\n\r\n", "http1.invalid_url", 400},
      {"GET * HTTP/1.1\r\nHost: x\r\n\r\n", "http1.invalid_url", 400},
      {"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n", "http1.invalid_url", 400},
      {"CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n", "http1.invalid_url", 400},
      {"GET a HTTP/1.1\r\nHost: x\r\n\r\n", "http1.codec_error", 400},
      {"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", "http1.codec_error", 400},
      {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "http.invalid_authority", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nConnection: X-Forwarded-For\r\n\r\n",
       "http1.connection_header_rejected", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nConnection: a,b,c,d,e,f,g,h,i,j,k\r\n\r\n",
       "http1.connection_header_rejected", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
       "http1.invalid_transfer_encoding", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
       "http1.content_length_and_chunked_not_allowed", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
       "http1.codec_error", 400},
  };
  for (const Case& each : cases) {
    H1HeadParser parser(Role::kRequest, {.http_10 = false});
    EXPECT_EQ(parseAll(parser, each.text), Status::kError) << each.text;
    EXPECT_STREQ(parser.refusal().details, each.details) << each.text;
    EXPECT_EQ(parser.refusal().status, each.status) << each.text;
  }
}

TEST(H1Request, ConnectNamesAHostAndAPort) {
  for (const char* good : {"h:443", "10.0.0.1:1", "[::1]:65535"})
    EXPECT_TRUE(isConnectTarget(good)) << good;
  for (const char* bad : {"", "h", "h:", "h:0", "h:65536", ":443", "[::1]", "u@h:1", "h:a"})
    EXPECT_FALSE(isConnectTarget(bad)) << bad;
}

TEST(H1Request, SplitsTheFormsOfATarget) {
  struct Case {
    const char* line;
    const char* path;
    const char* authority;
  };
  const Case cases[] = {
      {"GET /a?b", "/a?b", ""},
      {"OPTIONS *", "*", ""},
      {"GET http://h:8/p?q", "/p?q", "h:8"},
      {"GET HTTPS://[::1]", "/", "[::1]"},
      {"GET http://h?q", "?q", "h"},
      {"CONNECT h:443", "", "h:443"},
  };
  for (const Case& each : cases) {
    H1HeadParser parser(Role::kRequest, {});
    const std::string text = std::string(each.line) + " HTTP/1.1\r\nHost: x\r\n\r\n";
    ASSERT_EQ(parseAll(parser, text), Status::kDone) << each.line;
    EXPECT_EQ(parser.head().path, each.path);
    EXPECT_EQ(parser.head().authority, each.authority);
  }
  H1HeadParser fragment(Role::kRequest, {});
  EXPECT_EQ(parseAll(fragment, "GET http://h#f HTTP/1.1\r\nHost: x\r\n\r\n"), Status::kError);
  H1HeadParser plain(Role::kRequest, {.absolute_form = false});
  ASSERT_EQ(parseAll(plain, "GET http://h/p HTTP/1.1\r\nHost: x\r\n\r\n"), Status::kDone);
  EXPECT_EQ(plain.head().path, "http://h/p");
  EXPECT_EQ(plain.head().authority, "");
}

TEST(H1Request, DropsTheLengthBesideChunkedWhereThatIsAllowed) {
  H1HeadParser parser(Role::kRequest, {.chunked_beats_length = true});
  ASSERT_EQ(parseAll(parser,
                     "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n"),
            Status::kDone);
  EXPECT_EQ(parser.head().body, H1Body::kChunked);
  EXPECT_TRUE(parser.head().length_dropped);
}

TEST(H1Request, NeedsAHostUnlessToldOtherwise) {
  H1HeadParser lenient(Role::kRequest, {.host_required = false});
  EXPECT_EQ(parseAll(lenient, "GET / HTTP/1.1\r\n\r\n"), Status::kDone);
}

TEST(H1Host, IsANameOrAnAddressWithAPort) {
  for (const char* good :
       {"", "a", "A.b-c_d", "a:80", "a:", "1.2.3.4:8", "[::1]", "[::1]:80", "a.", "%41", "x;y=z"}) {
    EXPECT_TRUE(isHostAndPort(good)) << good;
  }
  for (const char* bad :
       {"a b", "a,b", "a@b", "u:p@a", "a:b", "a:1:2", "a:999999", "::1", "[", "[]", "[::1",
        "[::1]x", "[fe80::1%eth0]", "a/b", "a\\b", "a?b", "\xe9", "<a>"}) {
    EXPECT_FALSE(isHostAndPort(bad)) << bad;
  }
}

TEST(H1Request, HasLimitsOnBytesAndFields) {
  H1HeadParser small(Role::kRequest, {.head_bytes_max = 64, .field_count_max = 100});
  EXPECT_EQ(parseAll(small, "GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(64, 'a') + "\r\n\r\n"),
            Status::kError);
  EXPECT_EQ(small.refusal().status, 431);
  H1HeadParser endless(Role::kRequest, {.head_bytes_max = 64, .field_count_max = 100});
  EXPECT_EQ(parseAll(endless, std::string(65, 'a')), Status::kError);
  H1HeadParser few(Role::kRequest, {.head_bytes_max = 1024, .field_count_max = 2});
  EXPECT_EQ(parseAll(few, "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nC: d\r\n\r\n"), Status::kError);
  EXPECT_EQ(few.refusal().status, 431);
}

TEST(H1Response, KnowsWhichAnswersHaveABody) {
  struct Case {
    const char* text;
    const char* method;
    H1Body body;
  };
  const Case cases[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", H1Body::kLength},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", H1Body::kNone},
      {"HTTP/1.1 204 No Content\r\n\r\n", "GET", H1Body::kNone},
      {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", H1Body::kNone},
      {"HTTP/1.1 200\r\n\r\n", "GET", H1Body::kUntilClose},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", H1Body::kChunked},
      {"HTTP/1.1 200 OK\r\n\r\n", "CONNECT", H1Body::kNone},
  };
  for (const Case& each : cases) {
    H1HeadParser parser(Role::kResponse, {});
    parser.reset(each.method);
    ASSERT_EQ(parseAll(parser, each.text), Status::kDone) << each.text;
    EXPECT_EQ(parser.head().body, each.body) << each.text;
  }
}

std::string decode(H1ChunkDecoder& decoder, const std::string& text, std::size_t piece,
                   H1ChunkDecoder::Event& last) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    std::string chunk = text.substr(at, piece);
    std::size_t consumed = 0;
    std::string_view data;
    last = decoder.next(chunk, consumed, data);
    at += consumed;
    if (last == H1ChunkDecoder::Event::kData) out += data;
    if (last == H1ChunkDecoder::Event::kEnd || last == H1ChunkDecoder::Event::kError) break;
  }
  return out;
}

TEST(H1Chunks, DecodeInAnyPieces) {
  for (std::size_t piece : {1000U, 1U, 2U, 3U}) {
    H1ChunkDecoder decoder({});
    H1ChunkDecoder::Event last{};
    EXPECT_EQ(decode(decoder, "5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nX-T: v\r\n\r\n", piece, last),
              "hello!");
    EXPECT_EQ(last, H1ChunkDecoder::Event::kEnd);
    ASSERT_EQ(decoder.trailers().size(), 1u);
    EXPECT_EQ(decoder.trailers()[0].first, "x-t");
  }
}

TEST(H1Chunks, RefuseMalformedOnes) {
  for (const char* text : {"5\nhello\r\n", "\r\n", "-1\r\n", "0x5\r\n", "5 \r\nhello",
                           "5\r\nhelloX\r\n", "1000000000000000\r\n", "0\r\nbad trailer\r\n\r\n"}) {
    H1ChunkDecoder decoder({});
    H1ChunkDecoder::Event last{};
    decode(decoder, text, 1000, last);
    EXPECT_EQ(last, H1ChunkDecoder::Event::kError) << text;
  }
  H1ChunkDecoder decoder({});
  H1ChunkDecoder::Event last{};
  decode(decoder, "1;" + std::string(5000, 'x'), 100, last);
  EXPECT_EQ(last, H1ChunkDecoder::Event::kError);
}

TEST(H1Response, HasNoBodyWhereTheStatusAllowsNone) {
  for (const char* text : {"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n",
                           "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
                           "HTTP/1.1 100 Go\r\nContent-Length: 3\r\n\r\n"}) {
    H1HeadParser parser(Role::kResponse, {});
    EXPECT_EQ(parseAll(parser, text), Status::kError) << text;
  }
  H1HeadParser parser(Role::kResponse, {});
  EXPECT_EQ(parseAll(parser, "HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n"), Status::kDone);
}

H1ChunkDecoder::Event decodeAll(H1ChunkDecoder& decoder, std::string_view bytes) {
  H1ChunkDecoder::Event event = H1ChunkDecoder::Event::kNeedMore;
  while (!bytes.empty()) {
    std::size_t consumed = 0;
    std::string_view data;
    event = decoder.next(bytes, consumed, data);
    if (event == H1ChunkDecoder::Event::kError || event == H1ChunkDecoder::Event::kEnd) break;
    bytes.remove_prefix(consumed);
  }
  return event;
}

TEST(H1Chunks, ExtensionsOfAMessageAreLimited) {
  const std::string one = "1;" + std::string(400, 'x') + "\r\na\r\n";
  std::string few;
  std::string many;
  for (int i = 0; i < 9; ++i) few += one;
  for (int i = 0; i < 11; ++i) many += one;
  H1ChunkDecoder decoder({});
  EXPECT_EQ(decodeAll(decoder, few + "0\r\n\r\n"), H1ChunkDecoder::Event::kEnd);
  decoder.reset();
  EXPECT_EQ(decodeAll(decoder, many), H1ChunkDecoder::Event::kError);
}

TEST(H1Chunks, ExtensionsAreNamesAndValues) {
  for (const char* text : {";a", ";a=b", ";a=\"b c\"", ";a=\"\\\"\"", ";a;b=c;d", "; a = b ; c "}) {
    H1ChunkDecoder decoder({});
    EXPECT_EQ(decodeAll(decoder, "1" + std::string(text) + "\r\nx\r\n0\r\n\r\n"),
              H1ChunkDecoder::Event::kEnd)
        << text;
  }
  for (const char* text : {";", ";;a", ";a;", ";=b", ";a=", ";a=\"b", ";a=\"b\\\"", ";a b",
                           ";a=b c", ";a=\"b\"c", ";(", ";a=(", ";\xe9"}) {
    H1ChunkDecoder decoder({});
    EXPECT_EQ(decodeAll(decoder, "1" + std::string(text) + "\r\nx\r\n0\r\n\r\n"),
              H1ChunkDecoder::Event::kError)
        << text;
  }
}

TEST(H1Chunks, TrailersThatFrameOrRouteAreRefused) {
  for (const char* name : {"Content-Length", "transfer-encoding", "Host", "Connection", "TE"}) {
    H1ChunkDecoder decoder({});
    EXPECT_EQ(decodeAll(decoder, "0\r\n" + std::string(name) + ": 1\r\n\r\n"),
              H1ChunkDecoder::Event::kError)
        << name;
  }
}

}  // namespace
}  // namespace postern::codec
