#include "stats/tags.h"

#include <gtest/gtest.h>

namespace postern::stats {
namespace {

std::string tagged(std::string_view name) {
  const TaggedStat stat = extractTags(name);
  std::string out = stat.name;
  for (const auto& [tag, value] : stat.tags) out += " " + tag + "=" + value;
  return out;
}

TEST(StatTags, AreEnvoysDefaults) {
  EXPECT_EQ(tagged("cluster.outbound|80||a.default.svc.cluster.local.upstream_cx_total"),
            "cluster.upstream_cx_total "
            "envoy.cluster_name=outbound|80||a.default.svc.cluster.local");
  EXPECT_EQ(tagged("cluster.app.upstream_rq_200"),
            "cluster.upstream_rq envoy.cluster_name=app envoy.response_code=200");
  EXPECT_EQ(tagged("cluster.app.upstream_rq_5xx"),
            "cluster.upstream_rq_xx envoy.cluster_name=app envoy.response_code_class=5");
  EXPECT_EQ(tagged("listener.0.0.0.0_15006.downstream_cx_total"),
            "listener.downstream_cx_total envoy.listener_address=0.0.0.0_15006");
  EXPECT_EQ(tagged("listener.0.0.0.0_80.http.web.downstream_rq_2xx"),
            "listener.http.downstream_rq_xx envoy.http_conn_manager_prefix=web "
            "envoy.listener_address=0.0.0.0_80 envoy.response_code_class=2");
  EXPECT_EQ(tagged("http.outbound_0.0.0.0_80.downstream_rq_total"),
            "http.downstream_rq_total envoy.http_conn_manager_prefix=outbound_0.0.0.0_80");
  EXPECT_EQ(tagged("server.live"), "server.live");
}

TEST(StatTags, EscapesLabels) {
  EXPECT_EQ(prometheusLabel("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
  EXPECT_EQ(prometheusName("http.a-b"), "http_a_b");
}

}  // namespace
}  // namespace postern::stats
