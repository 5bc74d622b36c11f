#include "demo/allspark.h"
#include "demo/echo.h"
#include "demo/httpbin.h"
#include "demo/load.h"
#include "http/client.h"
#include "http/grpc.h"
#include "json/json.h"
#include "net/socket.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>

namespace postern::demo {
namespace {

using std::chrono::milliseconds;

template <class F>
void until(event::Loop& loop, F done) {
  for (int i = 0; i < 4000 && !done(); ++i) loop.runOnce(milliseconds(5));
  ASSERT_TRUE(done());
}

http::ClientResponse fetch(event::Loop& loop, const net::Address& address,
                           http::ClientRequest request) {
  http::Client::Options to;
  to.address = address;
  to.host = "demo.test";
  auto client = http::Client::make(loop, std::move(to));
  std::optional<base::Result<http::ClientResponse>> out;
  auto call = client->fetch(std::move(request), [&](base::Result<http::ClientResponse> response) {
    out = std::move(response);
  });
  until(loop, [&] { return out.has_value(); });
  EXPECT_TRUE(out && *out) << "no answer";
  return out && *out ? std::move(**out) : http::ClientResponse{};
}

struct Served {
  explicit Served(event::Loop& loop, http::Handler handler)
      : server(http::Server::make(loop, {}, std::move(handler))) {
    base::Fd listener = std::move(*net::listenSocket(net::Address::loopback(0)));
    address = net::localAddress(listener.get());
    server->listen(std::move(listener));
  }
  std::unique_ptr<http::Server> server;
  net::Address address;
};

TEST(Echo, DescribesTheRequestHostnameFirst) {
  event::Loop loop;
  Served echo(loop, makeEcho({.hostname = "echo-1"}));
  http::ClientRequest request{.method = "POST", .path = "/a?b=c", .body = "hello"};
  request.headers.add("x-b", "2");
  request.headers.add("x-a", "1");
  http::ClientResponse response = fetch(loop, echo.address, std::move(request));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.value("content-type"), "text/plain");
  EXPECT_TRUE(response.body.starts_with("Hostname: echo-1\n\nPod Information:\n\t-no pod"));
  EXPECT_NE(response.body.find("\tmethod=POST\n\treal path=/a?b=c\n\tquery=b=c\n"),
            std::string::npos);
  EXPECT_NE(response.body.find("\thost=demo.test\n\tx-a=1\n\tx-b=2\n"), std::string::npos);
  EXPECT_NE(response.body.find("Request Body:\nhello\n"), std::string::npos);
}

TEST(Httpbin, AnswersByPath) {
  event::Loop loop;
  Served httpbin(loop, makeHttpbin(loop));
  auto get = [&](std::string path) {
    return fetch(loop, httpbin.address, {.path = std::move(path)});
  };
  EXPECT_EQ(get("/").headers.value("content-type"), "text/html; charset=utf-8");
  json::Json shown = *json::parse(get("/get?a=1&b=x+y&a=2").body);
  EXPECT_EQ(shown["args"]["b"], "x y");
  EXPECT_EQ(shown["args"]["a"], (json::Json{"1", "2"}));
  EXPECT_EQ(shown["headers"]["Host"], "demo.test");
  EXPECT_EQ(shown["url"], "http://demo.test/get?a=1&b=x+y&a=2");
  EXPECT_TRUE(json::parse(get("/headers").body)->contains("headers"));
  EXPECT_EQ(get("/status/418").status, 418);
  EXPECT_EQ(get("/status/204").status, 204);
  EXPECT_EQ(get("/status/99").status, 400);
  EXPECT_EQ(get("/status/x").status, 400);
  EXPECT_EQ(get("/bytes/1000").body.size(), 1000u);
  EXPECT_EQ(get("/bytes/99999999").body.size(), kHttpbinBytesMax);
  EXPECT_EQ(get("/delay/0").status, 200);
  EXPECT_EQ(get("/nothing").status, 404);
  EXPECT_EQ(get("/post").status, 405);
  http::ClientResponse posted =
      fetch(loop, httpbin.address, {.method = "POST", .path = "/post", .body = R"({"k":[1]})"});
  EXPECT_EQ((*json::parse(posted.body))["json"]["k"][0], 1);
}

TEST(Httpbin, ForgetsADelayWhoseClientLeft) {
  event::Loop loop;
  Served httpbin(loop, makeHttpbin(loop));
  http::Client::Options to;
  to.address = httpbin.address;
  to.host = "demo.test";
  auto client = http::Client::make(loop, std::move(to));
  auto call = client->fetch({.path = "/delay/10"}, [](base::Result<http::ClientResponse>) {});
  until(loop, [&] { return httpbin.server->connections() == 1; });
  for (int i = 0; i < 5; ++i) loop.runOnce(milliseconds(2));
  call.reset();
  until(loop, [&] { return httpbin.server->connections() == 0; });
}

TEST(Targets, AreParsedWithTheirCounts) {
  auto targets =
      parseTargets("http://catalog:8080/x#2  tcp://database:8083#1 http://a grpc://m:1/s/M#x");
  ASSERT_TRUE(targets) << targets.error().message();
  ASSERT_EQ(targets->size(), 4u);
  EXPECT_EQ((*targets)[0].path, "/x");
  EXPECT_EQ((*targets)[0].count, 2u);
  EXPECT_EQ((*targets)[1].port, 8083);
  EXPECT_EQ((*targets)[2].port, 80);
  EXPECT_EQ((*targets)[2].count, 0u);
  EXPECT_EQ((*targets)[3].count, 0u);
  for (const char* bad : {"catalog:8080", "ftp://a:1", "http://:80", "http://a:0", "tcp://a"})
    EXPECT_FALSE(parseTargets(bad)) << bad;
  EXPECT_EQ(parseTargets("http://a#4000000000")->at(0).count, kCallsPerTargetMax);
}

std::unique_ptr<Allspark> spark(event::Loop& loop, net::Resolver& resolver,
                                std::map<std::string, std::string> variables) {
  for (const char* name : {"HTTPSERVER_LISTENADDRESS", "GRPCSERVER_LISTENADDRESS",
                           "TCPSERVER_LISTENADDRESS", "HEALTHCHECK_LISTENADDRESS"})
    variables.emplace(name, "127.0.0.1:0");
  auto options = allsparkOptions([&](const char* name) {
    auto it = variables.find(name);
    return it == variables.end() ? std::string() : it->second;
  });
  EXPECT_TRUE(options) << options.error().message();
  auto out = Allspark::make(loop, resolver, std::move(*options));
  EXPECT_TRUE(out);
  return std::move(*out);
}

TEST(Allspark, CallsOthersBeforeItAnswersAndForgivesTheirFailures) {
  event::Loop loop;
  auto resolver = net::makeResolver(loop);
  int calls = 0;
  std::string trace;
  Served other(loop, [&](http::Request request, std::unique_ptr<http::Responder> responder) {
    ++calls;
    trace = request.headers.value("x-request-id");
    responder->respond(500, {}, "");
  });
  auto database = spark(loop, *resolver, {});
  auto front = spark(
      loop, *resolver,
      {{"WORKLOAD", "Echo"},
       {"ECHO_STR", "frontpage"},
       {"REQUESTS", "http://" + other.address.toString() + "/#2 http://127.0.0.1:1/#1 tcp://" +
                        database->tcpAddress().toString() + "#1 grpc://127.0.0.1:1/a/b#1"}});
  http::ClientRequest request{.path = "/"};
  request.headers.add("x-request-id", "id-1");
  http::ClientResponse response = fetch(loop, front->httpAddress(), std::move(request));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "frontpage");
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(trace, "id-1");
  EXPECT_EQ(fetch(loop, front->httpAddress(), {.path = "/other"}).status, 404);
  EXPECT_EQ(fetch(loop, front->httpAddress(), {.method = "POST"}).status, 404);
  EXPECT_EQ(fetch(loop, front->healthAddress(), {.path = "/healthz"}).body, "ok");
}

TEST(Allspark, CallsByGrpcAndPassesTheTraceOn) {
  event::Loop loop;
  auto resolver = net::makeResolver(loop);
  std::vector<std::string> traces;
  Served last(loop, [&](http::Request request, std::unique_ptr<http::Responder> responder) {
    traces.emplace_back(request.headers.value("x-request-id"));
    responder->respond(200, {}, "");
  });
  auto movies = spark(loop, *resolver,
                      {{"WORKLOAD", "Echo"},
                       {"ECHO_STR", std::string(300, 'm')},
                       {"REQUESTS", "http://" + last.address.toString() + "/#1"}});
  auto catalog =
      spark(loop, *resolver,
            {{"REQUESTS", "grpc://" + movies->grpcAddress().toString() + "/allspark/Incoming#2"}});
  http::ClientRequest request{.path = "/"};
  request.headers.add("x-request-id", "id-2");
  EXPECT_EQ(fetch(loop, catalog->httpAddress(), std::move(request)).body, "ok");
  EXPECT_EQ(traces, (std::vector<std::string>{"id-2", "id-2"}));

  // The answer of one call, as a client sees it.
  http::GrpcChannel::Options options;
  options.address = movies->grpcAddress();
  options.host = "movies";
  auto channel = http::GrpcChannel::make(loop, std::move(options));
  std::string message;
  int code = -1;
  http::GrpcCallbacks callbacks;
  callbacks.on_message = [&](std::string_view bytes) { message = bytes; };
  callbacks.on_close = [&](http::GrpcStatus status) { code = status.code; };
  auto stream = channel->call("/allspark/Incoming", {}, std::move(callbacks));
  stream->send("");
  stream->close();
  for (int i = 0; i < 500 && code < 0; ++i) loop.runOnce(std::chrono::milliseconds(10));
  EXPECT_EQ(code, 0);
  EXPECT_EQ(message, "\x0a\xac\x02" + std::string(300, 'm'));
}

TEST(Allspark, NamesTheVariableThatIsWrong) {
  auto wrong = [](std::string name, std::string value) {
    auto options =
        allsparkOptions([&](const char* asked) { return name == asked ? value : std::string(); });
    return options ? std::string("accepted") : options.error().message();
  };
  EXPECT_EQ(wrong("WORKLOAD", "dance"), "WORKLOAD: must be Echo or PI");
  EXPECT_TRUE(wrong("REQUESTS", "nonsense#1").starts_with("REQUESTS: "));
  EXPECT_TRUE(wrong("HTTPSERVER_LISTENADDRESS", "x").starts_with("HTTPSERVER_LISTENADDRESS: "));
}

TEST(Load, KeepsItsRateAndCountsByStatus) {
  event::Loop loop;
  int seen = 0;
  Served server(loop, [&](http::Request, std::unique_ptr<http::Responder> responder) {
    responder->respond(++seen % 2 == 0 ? 503 : 200, {}, "x");
  });
  LoadOptions options;
  options.address = server.address;
  options.host = "demo.test";
  options.requests_per_second = 100;
  options.duration = milliseconds(500);
  std::optional<LoadReport> report;
  auto load = Load::start(loop, std::move(options), [&](LoadReport r) { report = std::move(r); });
  until(loop, [&] { return report.has_value(); });
  EXPECT_EQ(report->answers, static_cast<std::uint64_t>(seen));
  EXPECT_NEAR(static_cast<double>(report->answers + report->skipped), 50.0, 2.0);
  EXPECT_GT(report->by_status[200], 0u);
  EXPECT_GT(report->by_status[503], 0u);
  EXPECT_TRUE(report->errors.empty());
}

}  // namespace
}  // namespace postern::demo
