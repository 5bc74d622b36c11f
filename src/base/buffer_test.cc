#include "base/buffer.h"

#include "base/random.h"

#include <gtest/gtest.h>

namespace postern::base {
namespace {

TEST(Buffer, BehavesLikeAStringUnderRandomOperations) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Buffer a;
    Buffer b;
    std::string model_a;
    std::string model_b;
    for (int step = 0; step < 400; ++step) {
      switch (random.below(6)) {
        case 0: {
          std::string bytes(random.below(random.below(4) == 0 ? 40000 : 700),
                            static_cast<char>('a' + step % 26));
          a.append(bytes);
          model_a += bytes;
          break;
        }
        case 1: {
          std::size_t count = model_a.empty() ? 0 : random.below(model_a.size() + 1);
          a.drain(count);
          model_a.erase(0, count);
          break;
        }
        case 2: {
          std::size_t count = model_a.empty() ? 0 : random.below(model_a.size() + 1);
          b.append(a, count);
          model_b += model_a.substr(0, count);
          model_a.erase(0, count);
          break;
        }
        case 3:
          a.append(b);
          model_a += model_b;
          model_b.clear();
          break;
        case 4: {
          std::size_t count =
              std::min<std::size_t>(model_a.size(), random.below(Buffer::kBlockBytes + 1));
          ASSERT_EQ(a.contiguous(count), std::string_view(model_a).substr(0, count));
          break;
        }
        default: {
          char* out = nullptr;
          std::size_t room = a.reserve(out);
          std::size_t used = random.below(room + 1);
          std::fill(out, out + used, 'z');
          a.commit(used);
          model_a.append(used, 'z');
        }
      }
      ASSERT_EQ(a.size(), model_a.size());
      ASSERT_EQ(a.front().empty(), model_a.empty());
    }
    EXPECT_EQ(a.toString(), model_a);
    EXPECT_EQ(b.toString(), model_b);
  }
}

/// As a socket's reader fills it: at the start of a full block.
Buffer received(std::size_t bytes) {
  Buffer out;
  char* place = nullptr;
  while (out.size() < bytes) {
    const std::size_t room = std::min(out.reserve(place), bytes - out.size());
    std::fill(place, place + room, 'r');
    out.commit(room);
  }
  return out;
}

TEST(Buffer, HoldsAtMostFourTimesWhatWasMovedIntoIt) {
  for (std::size_t bytes = 1; bytes <= 20000; bytes += 97) {
    Buffer alone;
    Buffer from = received(bytes);
    alone.append(from);
    EXPECT_LE(alone.capacity(), std::max<std::size_t>(4 * bytes, 512)) << bytes;
  }
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    const std::size_t most = random.below(2) == 0 ? 700 : 6000;
    Buffer kept;
    for (int step = 0; step < 40; ++step) {
      Buffer from = received(1 + random.below(most));
      if (random.below(2) == 0) {
        kept.append(from);
      } else {
        kept.append(from, 1 + random.below(from.size()));
      }
      ASSERT_LE(kept.capacity(), std::max<std::size_t>(4 * kept.size(), 512))
          << seed << ' ' << step;
    }
  }
}

}  // namespace
}  // namespace postern::base
