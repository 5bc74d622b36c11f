#include "controllers/address_pool.h"
#include "controllers/context.h"
#include "controllers/object_graph.h"
#include "controllers/rollout.h"

#include <gtest/gtest.h>

namespace postern::controllers {
namespace {

TEST(Rollout, StaysWithinSurgeAndAvailability) {
  // Three pods, one more allowed, none missing: the new set grows by one, the old one waits.
  RolloutPlan plan = planRollout(3, 1, 0, {0, 0}, {{3, 3}});
  EXPECT_EQ(plan.fresh, 1);
  EXPECT_EQ(plan.old, std::vector<long long>{3});
  // The new pod became available: an old one may go.
  plan = planRollout(3, 1, 0, {1, 1}, {{3, 3}});
  EXPECT_EQ(plan.fresh, 1);
  EXPECT_EQ(plan.old, std::vector<long long>{2});
}

TEST(Rollout, DropsPodsThatNeverWorkedFirst) {
  RolloutPlan plan = planRollout(2, 1, 0, {1, 1}, {{2, 0}});
  EXPECT_EQ(plan.old, std::vector<long long>{1});
}

TEST(Rollout, ScalesDownToTheWish) {
  EXPECT_EQ(planRollout(1, 1, 0, {4, 4}, {}).fresh, 1);
  EXPECT_EQ(planRollout(0, 0, 0, {4, 4}, {}).fresh, 0);
}

TEST(Rollout, NamesTemplatesFromTheSafeAlphabet) {
  EXPECT_EQ(templateHash("a"), templateHash("a"));
  EXPECT_NE(templateHash("a"), templateHash("b"));
  EXPECT_EQ(templateHash("a").find_first_not_of("bcdfghjklmnpqrstvwxz2456789"), std::string::npos);
}

TEST(AddressPool, KeepsAddressesAndGivesTheLowestFree) {
  AddressPool pool("10.97.0.0/29");
  using List = std::vector<std::string>;
  EXPECT_EQ(pool.assign("a/x", {"10.97.0.3"}, 2), (List{"10.97.0.3", "10.97.0.1"}));
  EXPECT_EQ(pool.assign("a/y", {"10.97.0.3"}, 2), (List{"10.97.0.2", "10.97.0.4"}));
  EXPECT_EQ(pool.assign("a/y", {}, 2), (List{"10.97.0.2", "10.97.0.4"}));
  EXPECT_EQ(pool.assign("a/z", {}, 3), (List{"10.97.0.5", "10.97.0.6"}));  // exhausted
  pool.release("a/x");
  EXPECT_EQ(pool.assign("a/w", {"192.0.2.1"}, 1), List{"10.97.0.1"});
  EXPECT_TRUE(AddressPool("nonsense").assign("a/x", {}, 1).empty());
}

TEST(Context, MatchesSelectors) {
  Json labels{{"app", "echo"}, {"tier", "web"}};
  Json selector{
      {"matchLabels", {{"app", "echo"}}},
      {"matchExpressions",
       Json::array({{{"key", "tier"}, {"operator", "In"}, {"values", Json::array({"web"})}}})}};
  EXPECT_TRUE(selectorMatches(&selector, labels));
  EXPECT_FALSE(selectorMatches(&selector, Json{{"app", "echo"}}));
  EXPECT_FALSE(selectorMatches(nullptr, labels));
  EXPECT_FALSE(mapMatches(Json::object(), labels));
}

TEST(Context, MovesTransitionTimeOnlyWithTheStatus) {
  Json conditions;
  EXPECT_TRUE(setCondition(conditions, "Ready", true, "A", ""));
  conditions[0]["lastTransitionTime"] = "2020-01-01T00:00:00Z";
  EXPECT_TRUE(setCondition(conditions, "Ready", true, "B", ""));
  EXPECT_EQ(conditions[0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
  EXPECT_FALSE(setCondition(conditions, "Ready", true, "B", ""));
  EXPECT_TRUE(setCondition(conditions, "Ready", false, "B", ""));
  EXPECT_NE(conditions[0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
}

TEST(Context, ResolvesPercentages) {
  Json quarter = "25%";
  EXPECT_EQ(resolvePercent(&quarter, 3, true, 0), 1);
  EXPECT_EQ(resolvePercent(&quarter, 3, false, 9), 0);
  EXPECT_EQ(resolvePercent(nullptr, 3, false, 9), 9);
}

Json owned(const char* uid, const char* name, std::vector<std::string> owners) {
  Json out{{"metadata", {{"uid", uid}, {"namespace", "a"}, {"name", name}}}};
  for (const std::string& each : owners) {
    out["metadata"]["ownerReferences"].push_back(
        {{"apiVersion", "apps/v1"}, {"kind", "ReplicaSet"}, {"name", "r"}, {"uid", each}});
  }
  return out;
}

TEST(ObjectGraph, FindsDependentsOfWhatIsGone) {
  using List = std::vector<std::string>;
  ObjectGraph graph;
  graph.put(kube::types::kReplicaSet, owned("r1", "r", {}));
  graph.put(kube::types::kPod, owned("p1", "p", {"r1", "r2"}));
  EXPECT_EQ(graph.dependents("r1"), List{"p1"});
  EXPECT_EQ(graph.remove("r1"), List{"p1"});
  EXPECT_EQ(graph.find("r1"), nullptr);
  // An owner that was never seen has dependents too.
  EXPECT_EQ(graph.dependents("r2"), List{"p1"});
  // Giving up an owner breaks the way back.
  graph.put(kube::types::kPod, owned("p1", "p", {"r1"}));
  EXPECT_EQ(graph.dependents("r2"), List{});
  graph.remove("p1");
  EXPECT_EQ(graph.dependents("r1"), List{});
}

TEST(ObjectGraph, ReadsTheFinalizersOfDeletion) {
  ObjectGraph graph;
  Json object = owned("d", "d", {});
  object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  object["metadata"]["finalizers"] = {"foregroundDeletion"};
  graph.put(kube::types::kDeployment, object);
  EXPECT_TRUE(graph.find("d")->deleting);
  EXPECT_TRUE(graph.find("d")->waits_for_dependents);
  EXPECT_FALSE(graph.find("d")->releases_dependents);
  EXPECT_EQ(graph.ofType(kube::types::kDeployment), std::vector<std::string>{"d"});
}

}  // namespace
}  // namespace postern::controllers
