#include "control/authenticator.h"

#include "base/log.h"
#include "base/strings.h"
#include "tls/x509.h"

#include <nlohmann/json.hpp>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace postern::control {
namespace {

using json::Json;
using Answer = std::expected<xds::Caller, http::GrpcStatus>;

base::LogComponent kAuthenticatorLog("authenticator");

constexpr int kUnauthenticated = 16;
constexpr int kUnavailable = 14;
constexpr int kResourceExhausted = 8;
constexpr std::size_t kTokenBytesMax = 16 * 1024;
constexpr std::string_view kUserPrefix = "system:serviceaccount:";
constexpr const char* kReviewPath = "/apis/authentication.k8s.io/v1/tokenreviews";

Answer refuse(int code, std::string why) {
  return std::unexpected(http::GrpcStatus{code, std::move(why)});
}

/// The token of "Bearer …", or "".
std::string_view bearer(const http::HeaderMap& headers) {
  std::string_view value = headers.value("authorization");
  if (value.size() < 7 || !base::equalsIgnoreCase(value.substr(0, 7), "bearer ")) return {};
  return base::trim(value.substr(7));
}

class AuthenticatorImpl final : public Authenticator {
 public:
  AuthenticatorImpl(event::Loop& loop, kube::Client& client, Options options)
      : loop_(loop), client_(client), options_(options), alive_(std::make_shared<bool>(true)) {
    thread_ = std::thread([this] { work(); });
  }
  ~AuthenticatorImpl() override {
    *alive_ = false;  // what is posted already finds nobody
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  void admit(const http::HeaderMap& headers, xds::Server::Verdict verdict) override {
    const std::string_view token = bearer(headers);
    if (token.empty()) return verdict(refuse(kUnauthenticated, "no bearer token"));
    if (token.size() > kTokenBytesMax) return verdict(refuse(kUnauthenticated, "token too long"));
    const std::string digest = tls::sha256(token);
    if (const auto known = remembered_.find(digest); known != remembered_.end()) {
      if (known->second.until > loop_.now()) return verdict(known->second.caller);
      remembered_.erase(known);
    }
    auto& waiting = waiting_[digest];
    waiting.push_back(std::move(verdict));
    if (waiting.size() > 1) return;  // asked already
    {
      std::lock_guard lock(mutex_);
      if (questions_.size() < options_.waiting_max) {
        questions_.push_back({digest, std::string(token)});
        wake_.notify_one();
        return;
      }
    }
    answer(digest, refuse(kResourceExhausted, "too many callers at once"));
  }

 private:
  struct Question {
    std::string digest;
    std::string token;
  };
  struct Remembered {
    xds::Caller caller;
    base::MonotonicTime until;
  };

  void work() {
    for (;;) {
      Question question;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stop_ || !questions_.empty(); });
        if (stop_) return;
        question = std::move(questions_.front());
        questions_.pop_front();
      }
      Answer result = ask(question.token);
      loop_.post([this, alive = alive_, digest = std::move(question.digest),
                  result = std::move(result)]() mutable {
        if (*alive) answer(digest, std::move(result));
      });
    }
  }

  Answer ask(const std::string& token) {
    const Json review = {{"apiVersion", "authentication.k8s.io/v1"},
                         {"kind", "TokenReview"},
                         {"spec", {{"token", token}, {"audiences", {kTokenAudience}}}}};
    auto answer = client_.raw("POST", kReviewPath, json::dump(review));
    if (answer) return callerOf(*answer);
    kAuthenticatorLog.warning("TokenReview: {}", answer.error().message);
    return refuse(kUnavailable, "the token could not be checked: " + answer.error().message);
  }

  /// Loop thread.
  void answer(const std::string& digest, Answer result) {
    auto found = waiting_.find(digest);
    if (found == waiting_.end()) return;
    const std::vector<xds::Server::Verdict> verdicts = std::move(found->second);
    waiting_.erase(found);
    if (result) {
      if (remembered_.size() >= options_.remembered_max) remembered_.clear();
      remembered_[digest] = {*result, loop_.now() + options_.remember};
    }
    for (const auto& verdict : verdicts) verdict(result);
  }

  event::Loop& loop_;
  kube::Client& client_;
  const Options options_;
  std::shared_ptr<bool> alive_;  // loop thread
  std::map<std::string, Remembered> remembered_;
  std::map<std::string, std::vector<xds::Server::Verdict>> waiting_;  // by digest
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Question> questions_;  // guarded
  bool stop_ = false;               // guarded
  std::thread thread_;
};

}  // namespace

Answer callerOf(const Json& review) {
  if (!json::boolAt(review, "status.authenticated")) {
    return refuse(kUnauthenticated,
                  "token refused: " + json::stringAt(review, "status.error", "not authenticated"));
  }
  const Json* audiences = json::find(review, "status.audiences");
  bool ours = false;
  if (audiences != nullptr && audiences->is_array()) {
    for (const Json& each : *audiences) ours = ours || each == kTokenAudience;
  }
  if (!ours) return refuse(kUnauthenticated, "the token is not for audience istio-ca");
  std::string_view user;
  const std::string name = json::stringAt(review, "status.user.username");
  user = name;
  if (!user.starts_with(kUserPrefix)) {
    return refuse(kUnauthenticated, "the token is not of a service account");
  }
  user.remove_prefix(kUserPrefix.size());
  const auto colon = user.find(':');
  if (colon == std::string_view::npos || colon == 0 || colon + 1 == user.size()) {
    return refuse(kUnauthenticated, "the token is not of a service account");
  }
  xds::Caller caller;
  caller.local = false;
  caller.ns = user.substr(0, colon);
  caller.service_account = user.substr(colon + 1);
  if (const Json* extra = json::find(review, "status.user.extra");
      extra != nullptr && extra->is_object()) {
    auto pod = extra->find("authentication.kubernetes.io/pod-name");
    if (pod != extra->end() && pod->is_array() && !pod->empty() && pod->front().is_string()) {
      caller.pod = pod->front().get<std::string>();
    }
  }
  return caller;
}

std::unique_ptr<Authenticator> Authenticator::start(event::Loop& loop, kube::Client& client,
                                                    Options options) {
  return std::make_unique<AuthenticatorImpl>(loop, client, options);
}

}  // namespace postern::control
