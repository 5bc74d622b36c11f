#include "store/store.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace postern::store {
namespace {

json::Json object(const std::string& name) { return {{"metadata", {{"name", name}}}}; }

TEST(Store, CountsOneRevisionForAllKindsAndTellsChanges) {
  auto store = Store::open(":memory:").value();
  Revision start = store->revision();
  int seen = 0;
  auto subscription = store->subscribe("/pods", [&](const Change&) { ++seen; });
  ASSERT_TRUE(store->put("/pods", "a", "one", object("one")));
  ASSERT_TRUE(store->put("/services", "a", "one", object("one")));
  ASSERT_TRUE(store->put("/pods", "a", "one", object("one")));
  auto gone = store->remove("/pods", "a", "one").value();
  EXPECT_EQ(gone->at("metadata").at("resourceVersion"), std::to_string(start + 4));
  EXPECT_EQ(store->revision(), start + 4);
  EXPECT_EQ(seen, 3);
  std::vector<Change> changes;
  EXPECT_TRUE(store->changes("/pods", start + 1, changes));
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].type, Change::Type::kModified);
  EXPECT_EQ(changes[1].type, Change::Type::kDeleted);
  EXPECT_FALSE(store->changes("/pods", start - 1, changes));
}

TEST(Store, KeepsObjectsAndRevisionOverARestart) {
  std::string path = ::testing::TempDir() + "store_test.db";
  std::remove(path.c_str());
  Revision before = 0;
  {
    auto store = Store::open(path).value();
    ASSERT_TRUE(store->put("/pods", "b", "x", object("x")));
    ASSERT_TRUE(store->put("/pods", "a", "y", object("y")));
    before = store->revision();
  }
  auto store = Store::open(path).value();
  EXPECT_EQ(store->revision(), before);
  auto all = store->list("/pods");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]->at("metadata").at("name"), "y");
  EXPECT_EQ(store->list("/pods", "b").size(), 1u);
  std::vector<Change> changes;
  EXPECT_FALSE(store->changes("/pods", before - 1, changes));
  std::remove(path.c_str());
}

TEST(Store, ASubscriberMayLeaveInsideItsCallback) {
  auto store = Store::open(":memory:").value();
  std::unique_ptr<Subscription> first;
  int calls = 0;
  first = store->subscribe("", [&](const Change&) {
    ++calls;
    base::Function<void()> later;  // the callback object must stay alive until it returns
    (void)later;
  });
  auto second = store->subscribe("", [&](const Change&) { first.reset(); });
  ASSERT_TRUE(store->put("/pods", "a", "x", object("x")));
  ASSERT_TRUE(store->put("/pods", "a", "x", object("x")));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace postern::store
