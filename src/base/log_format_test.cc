#include "base/log_format.h"

#include <gtest/gtest.h>

namespace postern::base {
namespace {

std::string format(std::string_view pattern) {
  const auto parsed = LogFormat::parse(pattern);
  if (!parsed) return "refused";
  LogLine line;
  line.time = {1'700'000'000, 123'456'789};
  line.thread = 12;
  line.process = 11;
  line.level = LogLevel::kWarning;
  line.component = "main";
  line.text = "a\n\"b\"";
  std::string out;
  parsed->append(out, line);
  return out;
}

TEST(LogFormat, KnowsSpdlogsFlags) {
  EXPECT_EQ(format("[%t][%P][%l][%L][%n] %_"), "[12][11][warning][W][main] a\\n\"b\"\n");
  EXPECT_EQ(format("%e %f %F %E 100%%"), "123 123456 123456789 1700000000 100%\n");
  EXPECT_EQ(format("{\"m\":\"%j\"}"), "{\"m\":\"a\\n\\\"b\\\"\"}\n");
  EXPECT_EQ(format("[%g:%#]"), "[:]\n");
  EXPECT_EQ(format("%Y-%m-%d").size(), std::string("2023-11-14\n").size());
}

TEST(LogFormat, RefusesFlagsItDoesNotKnow) {
  EXPECT_EQ(format("%Q"), "refused");
  EXPECT_EQ(format("%"), "refused");
}

TEST(LogFormat, EscapesLikeC) { EXPECT_EQ(escapeC("a\n\x01\\"), "a\\n\\x01\\\\"); }

TEST(Log, LevelsWaitForComponentsThatComeLater) {
  EXPECT_FALSE(setLogLevel("log_format_test_late", LogLevel::kDebug));
  const LogComponent late("log_format_test_late");
  EXPECT_EQ(late.level(), LogLevel::kDebug);
}

}  // namespace
}  // namespace postern::base
