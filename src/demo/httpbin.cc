#include "demo/httpbin.h"

#include "base/strings.h"
#include "json/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <ctime>
#include <list>
#include <memory>
#include <string>
#include <utility>

namespace postern::demo {
namespace {

using http::Request;
using http::Responder;
using json::Json;

constexpr std::size_t kDelayedMax = 10000;

constexpr std::string_view kIndexPage =
    "<!DOCTYPE html>\n<html>\n<head><title>httpbin</title></head>\n<body>\n<h1>httpbin</h1>\n"
    "<p>A simple HTTP request and response service: /get, /post, /put, /patch, /delete, "
    "/anything, /headers, /ip, /user-agent, /status/{code}, /delay/{seconds}, /bytes/{n}.</p>\n"
    "</body>\n</html>\n";

/// "x-request-id" → "X-Request-Id", as WSGI servers show names.
std::string displayName(std::string_view name) {
  std::string out(name);
  bool first = true;
  for (char& c : out) {
    if (first && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    first = c == '-';
  }
  return out;
}

Json headersOf(const Request& request) {
  Json out = Json::object();
  request.headers.each([&](std::string_view name, std::string_view value) {
    if (name == ":authority") name = "host";
    if (name.starts_with(':')) return;
    std::string shown = displayName(name);
    if (out.contains(shown)) {
      out[shown] = out[shown].get<std::string>() + "," + std::string(value);
    } else {
      out[shown] = value;
    }
  });
  return out;
}

Json argumentsOf(std::string_view query) {
  Json out = Json::object();
  if (query.empty()) return out;
  for (std::string_view pair : base::split(query, '&')) {
    if (pair.empty()) continue;
    std::size_t equals = pair.find('=');
    std::string_view raw = equals == std::string_view::npos ? "" : pair.substr(equals + 1);
    auto decode = [](std::string_view text) {
      return base::percentDecode(text, base::Plus::kSpace).value_or(std::string(text));
    };
    std::string key = decode(pair.substr(0, equals));
    if (!out.contains(key)) {
      out[key] = decode(raw);
    } else if (out[key].is_array()) {
      out[key].push_back(decode(raw));
    } else {
      out[key] = Json::array({out[key], decode(raw)});
    }
  }
  return out;
}

std::string originOf(const Request& request) {
  std::string_view forwarded = request.headers.value("x-forwarded-for");
  return forwarded.empty() ? request.remote.ip() : std::string(forwarded);
}

Json describe(const Request& request) {
  return {
      {"args", argumentsOf(request.query)},
      {"headers", headersOf(request)},
      {"origin", originOf(request)},
      {"url", std::string(request.peer.tls ? "https" : "http") + "://" +
                  std::string(request.headers.authority()) + std::string(request.headers.path())}};
}

Json describeWithBody(const Request& request) {
  Json out = describe(request);
  const bool form =
      request.headers.value("content-type").starts_with("application/x-www-form-urlencoded");
  out["data"] = form ? std::string() : request.body;
  out["form"] = form ? argumentsOf(request.body) : Json::object();
  out["files"] = Json::object();
  auto parsed = json::parse(request.body);
  out["json"] = !form && parsed ? *parsed : Json();
  return out;
}

/// The fields in the order in which httpbin.org sends them.
void answer(Responder& responder, int status, std::string_view type, std::string body) {
  char date[64];
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  std::strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  responder.respond(status,
                    {{"date", date},
                     {"content-type", type},
                     {"content-length", std::to_string(body.size())},
                     {"server", "gunicorn/19.9.0"},
                     {"access-control-allow-origin", "*"},
                     {"access-control-allow-credentials", "true"}},
                    std::move(body));
}

void answerJson(Responder& responder, const Json& value, int status = 200) {
  answer(responder, status, "application/json", json::dumpPretty(value) + "\n");
}

void answerText(Responder& responder, int status, std::string_view text) {
  answer(responder, status, "text/plain; charset=utf-8", std::string(text));
}

/// The answers that wait for their time.
class Delays {
 public:
  explicit Delays(event::Loop& loop) : loop_(loop) {}

  void add(Request request, std::unique_ptr<Responder> responder, std::chrono::milliseconds after) {
    if (waiting_.size() >= kDelayedMax) return answerText(*responder, 503, "too many delays\n");
    auto it = waiting_.emplace(waiting_.end());
    it->request = std::move(request);
    it->responder = std::move(responder);
    it->timer = std::make_unique<event::Timer>(loop_, [this, it] { fire(it); });
    it->responder->onGone([this, it] { release(it); });
    it->timer->arm(after);
  }

 private:
  struct Waiting {
    Request request;
    std::unique_ptr<Responder> responder;
    std::unique_ptr<event::Timer> timer;
  };
  using Iterator = std::list<Waiting>::iterator;
  /// Ends its life outside the callback that found it over.
  struct Released : event::Deferred {
    std::list<Waiting> one;
  };

  void fire(Iterator it) {
    Responder& responder = *it->responder;
    Json body = describeWithBody(it->request);
    release(it);
    answerJson(responder, body);
  }
  void release(Iterator it) {
    it->timer->cancel();
    auto released = std::make_unique<Released>();
    released->one.splice(released->one.end(), waiting_, it);
    loop_.destroyLater(std::move(released));
  }

  event::Loop& loop_;
  std::list<Waiting> waiting_;
};

bool isMethodPath(std::string_view path) {
  return path == "/get" || path == "/post" || path == "/put" || path == "/patch" ||
         path == "/delete";
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = (c >= 'a' && c <= 'z') ? static_cast<char>(c - 32) : c;
  return out;
}

void answerStatus(Responder& responder, std::string_view text) {
  auto status = base::parseInteger<int>(text);
  if (!status || *status < 200 || *status > 599) {
    return answerText(responder, 400, "Invalid status code\n");
  }
  if (*status >= 301 && *status <= 307 && *status != 304 && *status != 306) {
    return responder.respond(*status, {{"location", "/redirect/1"}}, "");
  }
  answerText(responder, *status, "");
}

void answerBytes(Responder& responder, std::string_view text) {
  auto count = base::parseInteger<std::size_t>(text);
  if (!count) return answerText(responder, 404, "Not Found\n");
  std::string bytes(std::min(*count, kHttpbinBytesMax), '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>('!' + i % 94);
  answer(responder, 200, "application/octet-stream", std::move(bytes));
}

void handle(Delays& delays, Request request, std::unique_ptr<Responder> responder) {
  const std::string path = request.path;
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (isMethodPath(path)) {
    const std::string wanted = upper(std::string_view(path).substr(1));
    if (request.method != wanted && !(wanted == "GET" && reads)) {
      return responder->respond(405, {{"allow", wanted}, {"content-type", "text/plain"}},
                                "Method Not Allowed\n");
    }
    return answerJson(*responder, wanted == "GET" ? describe(request) : describeWithBody(request));
  }
  if (path == "/")
    return answer(*responder, 200, "text/html; charset=utf-8", std::string(kIndexPage));
  if (path == "/headers") return answerJson(*responder, {{"headers", headersOf(request)}});
  if (path == "/ip") return answerJson(*responder, {{"origin", originOf(request)}});
  if (path == "/user-agent") {
    return answerJson(*responder,
                      {{"user-agent", std::string(request.headers.value("user-agent"))}});
  }
  if (path == "/anything" || path.starts_with("/anything/")) {
    Json body = describeWithBody(request);
    body["method"] = request.method;
    return answerJson(*responder, body);
  }
  if (path == "/redirect/1") return responder->respond(302, {{"location", "/get"}}, "");
  if (path.starts_with("/status/")) return answerStatus(*responder, path.substr(8));
  if (path.starts_with("/bytes/")) return answerBytes(*responder, path.substr(7));
  if (path.starts_with("/delay/")) {
    auto seconds = base::parseInteger<unsigned>(path.substr(7));
    if (!seconds) return answerText(*responder, 404, "Not Found\n");
    return delays.add(std::move(request), std::move(responder),
                      std::chrono::seconds(std::min(*seconds, kHttpbinDelaySecondsMax)));
  }
  answerText(*responder, 404, "Not Found\n");
}

}  // namespace

http::Handler makeHttpbin(event::Loop& loop) {
  return [delays = std::make_unique<Delays>(loop)](Request request,
                                                   std::unique_ptr<Responder> responder) {
    handle(*delays, std::move(request), std::move(responder));
  };
}

}  // namespace postern::demo
