#include "proxy/access_log.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <unistd.h>

namespace postern::proxy {
namespace {

TEST(AccessLog, WritesWithin100Milliseconds) {
  char path[] = "/tmp/postern_log_XXXXXX";
  const int fd = ::mkstemp(path);
  ASSERT_GE(fd, 0);
  ::close(fd);
  event::Loop loop;
  AccessLogWriter writer(loop, {});
  formatter::AccessRecord record;
  record.response_code = 200;
  record.upstream_host = "52.202.2.199:80";
  std::string error;
  AccessLogConfig log;
  log.path = path;
  ASSERT_TRUE(formatter::Format::compile("%RESPONSE_CODE% %UPSTREAM_HOST%\n", log.text, error));
  AccessLogConfig filtered = log;
  filtered.filter.emplace_back();
  filtered.filter[0].kind = LogFilter::Kind::kStatus;
  filtered.filter[0].op = LogFilter::Op::kAtLeast;
  filtered.filter[0].value = 400;
  writer.log({log, filtered}, record);
  const auto begin = std::chrono::steady_clock::now();
  std::string content;
  while (content.empty() && std::chrono::steady_clock::now() - begin < std::chrono::seconds(2)) {
    loop.runOnce(std::chrono::milliseconds(10));
    std::stringstream all;
    all << std::ifstream(path).rdbuf();
    content = all.str();
  }
  EXPECT_LE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(100));
  EXPECT_EQ(content, "200 52.202.2.199:80\n");
  ::unlink(path);
}

}  // namespace
}  // namespace postern::proxy
