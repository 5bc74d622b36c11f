#include "http/h2_stream_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace postern::http {
namespace {

// A stream asks nothing of its session until it is used.
std::unique_ptr<H2Stream> makeStream(std::uint32_t id) {
  alignas(8) static char nowhere[8];
  return std::make_unique<H2Stream>(reinterpret_cast<H2Session&>(nowhere), id, 0, 0);
}

TEST(H2StreamTable, KeepsStreamsInAnyOrderOfTheirEnds) {
  std::mt19937 random(3);
  for (int round = 0; round < 20; ++round) {
    H2StreamTable table;
    std::map<std::uint32_t, H2Stream*> known;
    std::uint32_t next = 1;
    for (int step = 0; step < 2000; ++step) {
      if (known.size() < 100 && random() % 2 == 0) {
        known[next] = &table.add(makeStream(next));
        next += 2;
      } else if (!known.empty()) {
        auto it = known.begin();
        std::advance(it, random() % (round % 2 == 0 ? known.size() : 1 + known.size() / 8));
        const std::unique_ptr<H2Stream> taken = table.take(it->first);
        ASSERT_EQ(taken.get(), it->second);
        ASSERT_EQ(table.take(it->first), nullptr);
        ASSERT_EQ(table.find(it->first), nullptr);
        known.erase(it);
      }
      ASSERT_EQ(table.size(), known.size());
      ASSERT_EQ(table.empty(), known.empty());
    }
    for (const auto& [id, stream] : known) EXPECT_EQ(table.find(id), stream);
    EXPECT_EQ(table.find(next), nullptr);
    std::vector<H2Stream*> seen;
    EXPECT_EQ(table.findIf([&](H2Stream& each) {
      seen.push_back(&each);
      return false;
    }),
              nullptr);
    std::vector<H2Stream*> wanted;
    for (const auto& [id, stream] : known) wanted.push_back(stream);
    EXPECT_EQ(seen, wanted);
  }
}

}  // namespace
}  // namespace postern::http
