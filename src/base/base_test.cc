#include "base/error.h"
#include "base/function.h"
#include "base/intrusive_list.h"
#include "base/published.h"
#include "base/random.h"
#include "base/strings.h"
#include "base/words.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>

namespace postern::base {
namespace {

Result<int> half(int x) {
  if (x % 2 != 0) return fail(Errc::kInvalidArgument, "odd");
  return x / 2;
}
Result<int> quarter(int x) {
  POSTERN_TRY(int h, half(x));
  POSTERN_TRY(int q, half(h));
  return q;
}

TEST(Try, PropagatesTheError) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).error().code, Errc::kInvalidArgument);
}

TEST(Function, HoldsMoveOnlyAndLargeCaptures) {
  auto owned = std::make_unique<int>(7);
  Function<int(int)> small([p = std::move(owned)](int x) { return *p + x; });
  struct Big {
    int v[64] = {};
  } big;
  big.v[63] = 5;
  Function<int(int)> large([big](int x) { return big.v[63] + x; });
  Function<int(int)> moved = std::move(small);
  EXPECT_FALSE(static_cast<bool>(small));
  EXPECT_EQ(moved(1), 8);
  moved = std::move(large);
  EXPECT_EQ(moved(1), 6);
}

struct Item : ListHook<> {
  int value = 0;
};

TEST(IntrusiveList, UnlinksOnDestruction) {
  IntrusiveList<Item> list;
  Item a;
  a.value = 1;
  {
    Item b;
    b.value = 2;
    list.pushBack(a);
    list.pushBack(b);
    EXPECT_EQ(list.back()->value, 2);
  }
  EXPECT_EQ(list.back()->value, 1);
  EXPECT_EQ(list.popFront(), &a);
  EXPECT_TRUE(list.empty());
}

TEST(Strings, Base64RoundTrips) {
  for (std::string text : {"", "f", "fo", "foo", "foob"})
    EXPECT_EQ(base64Decode(base64Encode(text)), text);
  EXPECT_EQ(base64Encode("foob"), "Zm9vYg==");
  EXPECT_FALSE(base64Decode("a"));
  EXPECT_FALSE(base64Decode("a*bc"));
}

TEST(Strings, PercentDecodeRefusesBrokenEscapes) {
  EXPECT_EQ(percentDecode("a%20b+c"), "a b+c");
  EXPECT_EQ(percentDecode("a+b", Plus::kSpace), "a b");
  EXPECT_FALSE(percentDecode("%2"));
  EXPECT_FALSE(percentDecode("%zz"));
}

TEST(Words, LowerCaseIsThatOfEachByte) {
  for (std::size_t size = 0; size <= 40; ++size) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string text(size, 'Q');
      for (std::size_t at = 0; at < size; at += 3) text[at] = static_cast<char>(byte);
      std::string lower(size, '-');
      copyLower(lower.data(), text);
      EXPECT_EQ(lower, toLower(text)) << size << " " << byte;
      EXPECT_TRUE(equalsIgnoreCase(text, lower));
      if (size == 0) continue;
      std::string other = lower;
      other[size / 2] = static_cast<char>(other[size / 2] ^ 0x21);
      EXPECT_FALSE(equalsIgnoreCase(text, other));
    }
  }
}

TEST(Words, TellsBytesOfABlockApart) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (std::size_t at = 0; at < 16; ++at) {
      for (const int around : {0x00, 0x20, 0x7f, 0x80, 0xff}) {
        std::string text(16, static_cast<char>(around));
        text[at] = static_cast<char>(byte);
        const auto value = static_cast<std::uint8_t>(byte);
        const Block block = loadWord<Block>(text.data());
        EXPECT_EQ(betweenBytes(block, 0x10, 0x1f)[at] != 0, byte >= 0x10 && byte < 0x20) << byte;
        EXPECT_EQ(equalBytes(block, 0x7f)[at] != 0, byte == 0x7f) << byte;
        if (static_cast<int>(byte) == around) continue;
        EXPECT_EQ(firstByte(equalBytes(block, value)), at);
      }
    }
  }
  EXPECT_EQ(firstByte(Block{}), 16U);
}

TEST(Words, AnyOfBlocksSeesEveryByte) {
  const auto control = [](Block block) { return betweenBytes(block, 0, 0x1f); };
  for (std::size_t size = 0; size <= 50; ++size) {
    std::string text(size, 'a');
    EXPECT_FALSE(anyByte(anyOfBlocks(text, control)));
    for (std::size_t at = 0; at < size; ++at) {
      text[at] = 1;
      EXPECT_TRUE(anyByte(anyOfBlocks(text, control))) << size << " " << at;
      text[at] = 'a';
    }
  }
}

TEST(Words, CopiesAndComparesEveryByte) {
  for (std::size_t size = 0; size <= 50; ++size) {
    std::string text;
    for (std::size_t i = 0; i < size; ++i) text += static_cast<char>('A' + i);
    std::string copy(size + 2, '#');
    copyBytes(copy.data() + 1, text.data(), size);
    EXPECT_EQ(copy, "#" + text + "#");
    EXPECT_TRUE(sameBytes(text, copy.substr(1, size)));
    EXPECT_FALSE(sameBytes(text, copy));
    for (std::size_t at = 0; at < size; ++at) {
      std::string other = text;
      other[at] = '!';
      EXPECT_FALSE(sameBytes(text, other)) << size << " " << at;
    }
  }
}

TEST(Random, UuidHasVersionAndVariant) {
  Random random(1);
  std::string id = random.uuid();
  EXPECT_EQ(id.size(), 36u);
  EXPECT_EQ(id[14], '4');
  EXPECT_NE(std::string("89ab").find(id[19]), std::string::npos);
  for (const std::size_t at : {8u, 13u, 18u, 23u}) EXPECT_EQ(id[at], '-');
  EXPECT_EQ(std::count(id.begin(), id.end(), '-'), 4);
}

TEST(Random, NoTwoUuidsAreAlikeAlsoOfTwoSources) {
  Random one;
  Random other;
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    seen.insert(one.uuid());
    seen.insert(other.uuid());
  }
  EXPECT_EQ(seen.size(), 2000U);
}

TEST(Published, GivesWhatWasSetLastAndLetsGoOfTheOneBefore) {
  Published<int> value;
  EXPECT_EQ(value.get(), nullptr);
  auto first = std::make_shared<const int>(1);
  value.set(first);
  EXPECT_EQ(value.get(), first);
  value.set(std::make_shared<const int>(2));
  EXPECT_EQ(*value.get(), 2);
  EXPECT_EQ(first.use_count(), 1);
}

}  // namespace
}  // namespace postern::base
