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

}  // namespace
}  // namespace postern::base
