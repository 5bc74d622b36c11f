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
          // Also nothing, and all of it: an empty block behind a full one.
          const std::uint64_t kind = random.below(4);
          std::size_t used = kind == 0 ? 0 : kind == 1 ? room : random.below(room + 1);
          std::fill(out, out + used, 'z');
          a.commit(used);
          model_a.append(used, 'z');
        }
      }
      ASSERT_EQ(a.size(), model_a.size());
      ASSERT_EQ(a.front().empty(), model_a.empty());
      if (a.empty()) {
        ASSERT_LE(a.capacity(), Buffer::kBlockBytes);
      }
    }
    EXPECT_EQ(a.toString(), model_a);
    EXPECT_EQ(b.toString(), model_b);
  }
}

/// As a socket's reader leaves it: `bytes` of a full block behind `before` that were taken, and
/// perhaps a block behind it that nothing came for.
Buffer received(std::size_t bytes, std::size_t before, bool more_was_tried) {
  Buffer out;
  char* place = nullptr;
  while (out.size() < before + bytes) {
    const std::size_t room = std::min(out.reserve(place), before + bytes - out.size());
    std::fill(place, place + room, 'r');
    out.commit(room);
  }
  if (more_was_tried) {
    out.reserve(place);
    out.commit(0);
  }
  out.drain(before);
  return out;
}

TEST(Buffer, AnEmptyBlockBehindAFullOneIsNotMoved) {
  Buffer kept;
  for (int i = 0; i < 3; ++i) {
    Buffer from = received(Buffer::kBlockBytes, 0, true);
    kept.append(from);
  }
  EXPECT_EQ(kept.capacity(), 3 * Buffer::kBlockBytes);
  Buffer out;
  out.append(kept, 2 * Buffer::kBlockBytes + 1);
  EXPECT_EQ(out.size(), 2 * Buffer::kBlockBytes + 1);
  EXPECT_EQ(kept.size(), Buffer::kBlockBytes - 1);
}

TEST(Buffer, HoldsAtMostFourTimesWhatWasMovedIntoIt) {
  for (std::size_t bytes = 1; bytes <= 20000; bytes += 97) {
    for (const std::size_t before : {std::size_t{0}, Buffer::kBlockBytes - 1}) {
      Buffer alone;
      Buffer from = received(bytes, before, true);
      alone.append(from);
      EXPECT_LE(alone.capacity(), std::max<std::size_t>(4 * bytes, 512)) << bytes;
    }
  }
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    const std::size_t most = random.below(2) == 0 ? 700 : 6000;
    Buffer kept;
    for (int step = 0; step < 40; ++step) {
      const std::size_t bytes = 1 + random.below(most);
      // At the start of its block, at its end, over two.
      const std::uint64_t kind = random.below(3);
      const std::size_t before = kind == 0 ? 0 : Buffer::kBlockBytes - (kind == 1 ? bytes : 1);
      Buffer from = received(bytes, before, random.below(2) == 0);
      if (random.below(2) == 0) {
        kept.append(from);
      } else {
        kept.append(from, 1 + random.below(from.size()));
      }
      ASSERT_LE(kept.capacity(), 4 * kept.size() + Buffer::kBlockBytes) << seed << ' ' << step;
    }
  }
}

TEST(Buffer, OfBytesAtTheEndsOfBlocksItHoldsLittleMore) {
  Buffer kept;
  for (int i = 0; i < 1000; ++i) {
    Buffer from = received(1, Buffer::kBlockBytes - 1, false);
    kept.append(from);
  }
  EXPECT_LE(kept.capacity(), 4096U);
  Buffer full = received(5000, 0, false);
  kept.append(full);
  for (int i = 0; i < 1000; ++i) {
    Buffer from = received(1, Buffer::kBlockBytes - 1, false);
    kept.append(from);
  }
  EXPECT_LE(kept.capacity(), 4096U + Buffer::kBlockBytes);
}

}  // namespace
}  // namespace postern::base
