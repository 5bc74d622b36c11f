// The REST core without sockets: requests in, recorded answers out.
#include "apiserver/rest.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace postern::apiserver {
namespace {

struct Recorded {
  int status = 0;
  std::string body;
  Json json() const { return json::parse(body).value_or(Json()); }
};

class FakeResponder final : public http::Responder {
 public:
  explicit FakeResponder(std::shared_ptr<Recorded> to) : to_(std::move(to)) {}
  void respond(int status, http::HeaderMap, std::string body) override {
    to_->status = status;
    to_->body = std::move(body);
  }
  void start(int status, http::HeaderMap) override { to_->status = status; }
  std::size_t write(std::string_view bytes) override {
    to_->body += bytes;
    return 0;
  }
  void end() override {}
  void onGone(base::Function<void()>) override {}
  void onDrained(base::Function<void()>) override {}
  std::unique_ptr<net::Transport> upgrade(http::HeaderMap, base::Buffer&) override {
    return nullptr;
  }

 private:
  std::shared_ptr<Recorded> to_;
};

class NoAdmission final : public Admission {
 public:
  void mutate(WritePtr, AdmissionDone done) override { done(true); }
  void validate(WritePtr, AdmissionDone done) override { done(true); }
};

class RestTest : public ::testing::Test {
 protected:
  RestTest() {
    rest_.ensure(
        "/namespaces", "",
        {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", "default"}}}});
  }
  std::shared_ptr<Recorded> call(const std::string& method, std::string path,
                                 const std::string& body = "",
                                 const std::string& type = "application/json") {
    http::Request request;
    request.method = method;
    std::size_t question = path.find('?');
    if (question != std::string::npos) {
      request.query = path.substr(question + 1);
      path.resize(question);
    }
    request.path = path;
    request.body = body;
    request.headers.add("content-type", type);
    auto recorded = std::make_shared<Recorded>();
    auto parsed = std::make_shared<Call>(parseCall(std::move(request)));
    parsed->served = catalog_.find(parsed->group, parsed->version, parsed->resource);
    if (!parsed->served) return recorded;
    rest_.handle(std::move(parsed), std::make_unique<FakeResponder>(recorded));
    return recorded;
  }

  const std::string maps_ = "/api/v1/namespaces/default/configmaps";
  event::Loop loop_;
  std::unique_ptr<store::Store> store_ = store::Store::open(":memory:").value();
  Catalog catalog_{loop_, *store_};
  NoAdmission admission_;
  Rest rest_{loop_, *store_, catalog_, admission_, {}};
};

TEST_F(RestTest, AWriteThatChangesNothingKeepsTheRevision) {
  auto made = call("POST", maps_, R"({"metadata":{"name":"a"},"data":{"k":"v"}})");
  EXPECT_EQ(made->status, 201);
  std::string version = made->json()["metadata"]["resourceVersion"];
  auto same = call("PATCH", maps_ + "/a", R"({"data":{"k":"v"}})", "application/merge-patch+json");
  EXPECT_EQ(same->json()["metadata"]["resourceVersion"], version);
  auto other = call("PATCH", maps_ + "/a", R"({"data":{"k":"w"}})", "application/merge-patch+json");
  EXPECT_NE(other->json()["metadata"]["resourceVersion"], version);
  auto stale = call("PUT", maps_ + "/a",
                    R"({"metadata":{"name":"a","resourceVersion":")" + version + R"("}})");
  EXPECT_EQ(stale->status, 409);
  EXPECT_EQ(stale->json()["reason"], "Conflict");
  EXPECT_EQ(call("POST", maps_, R"({"metadata":{"name":"a"}})")->json()["reason"], "AlreadyExists");
}

TEST_F(RestTest, AnApplyThatChangesNothingKeepsTheRevision) {
  const std::string type = "application/apply-patch+yaml";
  const auto apply = [&](const std::string& manager, const std::string& data) {
    const std::string body =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: " + data + "}";
    return call("PATCH", maps_ + "/a?fieldManager=" + manager, body, type)
        ->json()["metadata"]["resourceVersion"];
  };
  apply("one", "{k: v}");
  const json::Json version = apply("two", "{l: w}");
  // Later, when the time is another one.
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_EQ(apply("one", "{k: v}"), version);
  EXPECT_EQ(apply("two", "{l: w}"), version);
  EXPECT_NE(apply("two", "{l: x}"), version);
}

TEST_F(RestTest, FinalizersHoldADeletedObject) {
  call("POST", maps_, R"({"metadata":{"name":"a","finalizers":["x.io/y"]}})");
  auto held = call("DELETE", maps_ + "/a");
  EXPECT_TRUE(held->json()["metadata"].contains("deletionTimestamp"));
  EXPECT_EQ(call("GET", maps_ + "/a")->status, 200);
  call("PATCH", maps_ + "/a", R"({"metadata":{"finalizers":null}})",
       "application/merge-patch+json");
  EXPECT_EQ(call("GET", maps_ + "/a")->json()["message"], "configmaps \"a\" not found");
}

TEST_F(RestTest, AWatchTellsSelectorTransitionsAndExpiry) {
  call("POST", maps_, R"({"metadata":{"name":"a","labels":{"k":"v"}}})");
  auto watch = call("GET", maps_ +
                               "?watch=true&labelSelector=k%3Dv&sendInitialEvents=true&"
                               "resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
  EXPECT_NE(watch->body.find("ADDED"), std::string::npos);
  EXPECT_NE(watch->body.find("k8s.io/initial-events-end"), std::string::npos);
  call("PATCH", maps_ + "/a", R"({"metadata":{"labels":null}})", "application/merge-patch+json");
  EXPECT_NE(watch->body.find("DELETED"), std::string::npos);
  auto old = call("GET", maps_ + "?watch=true&resourceVersion=1");
  EXPECT_EQ(old->status, 200);
}

TEST_F(RestTest, ApplyConflictsUnlessForced) {
  const std::string type = "application/apply-patch+yaml";
  auto body = [](const char* value) {
    return std::string("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: ") + value +
           "}\n";
  };
  EXPECT_EQ(call("PATCH", maps_ + "/a?fieldManager=one", body("x"), type)->status, 201);
  auto refused = call("PATCH", maps_ + "/a?fieldManager=two", body("z"), type);
  EXPECT_EQ(refused->json()["message"],
            "Apply failed with 1 conflict: conflict with \"one\": .data.k");
  auto forced = call("PATCH", maps_ + "/a?fieldManager=two&force=true", body("z"), type);
  EXPECT_EQ(forced->json()["data"]["k"], "z");
  auto removed = call("PATCH", maps_ + "/a?fieldManager=two",
                      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", type);
  EXPECT_FALSE(removed->json().contains("data"));
}

TEST_F(RestTest, ApplyRemovesTheListItemsItNoLongerNames) {
  const std::string type = "application/apply-patch+yaml";
  const std::string path = "/api/v1/namespaces/default/services/s?fieldManager=one";
  const auto service = [](const std::string& ports) {
    return R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"type":"NodePort","ports":[)" +
           ports + "]}}";
  };
  const std::string two = R"({"name":"b","port":81})";
  call("PATCH", path, service(R"({"name":"a","port":80},)" + two), type);
  auto answer = call("PATCH", path, service(two), type);
  ASSERT_EQ(answer->status, 200) << answer->body;
  const Json ports = answer->json()["spec"]["ports"];  // with the defaulted nodePort gone too
  ASSERT_EQ(ports.size(), 1U) << answer->body;
  EXPECT_EQ(ports[0]["port"], 81);
}

TEST_F(RestTest, StrategicPatchesMergeContainersByName) {
  const std::string path = "/apis/apps/v1/namespaces/default/deployments";
  auto made = call("POST", path, R"({"metadata":{"name":"d"},"spec":{
    "selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},
    "spec":{"containers":[{"name":"c","image":"i:1"}]}}}})");
  ASSERT_EQ(made->status, 201) << made->body;
  auto patched = call("PATCH", path + "/d",
                      R"({"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:2"},
                          {"name":"n","image":"j:1"}]}}}})",
                      "application/strategic-merge-patch+json")
                     ->json();
  EXPECT_EQ(patched["metadata"]["generation"], 2);
  const Json& containers = patched["spec"]["template"]["spec"]["containers"];
  ASSERT_EQ(containers.size(), 2u);
  EXPECT_EQ(containers[0]["name"], "n");
  EXPECT_EQ(containers[1]["image"], "i:2");
  auto scaled = call("PATCH", path + "/d/scale", R"({"spec":{"replicas":3}})",
                     "application/merge-patch+json");
  EXPECT_EQ(scaled->json()["kind"], "Scale");
  EXPECT_EQ(call("GET", path + "/d")->json()["spec"]["replicas"], 3);
}

}  // namespace
}  // namespace postern::apiserver
