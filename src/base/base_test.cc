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
  for (std::size_t size = 0; size <= 24; ++size) {
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

TEST(Words, TellsBytesOfAWordApart) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (int at = 0; at < 8; ++at) {
      const int shift = 8 * at;
      // Neighbours on both sides of every limit must not spill into this byte.
      for (const std::uint64_t around : {0x00ULL, 0x20ULL, 0x7fULL, 0x80ULL, 0xffULL}) {
        const std::uint64_t word = (around * kEachByte & ~(0xffULL << shift)) | std::uint64_t{byte}
                                                                                    << shift;
        EXPECT_EQ((belowBytes(word, 0x20) >> shift & 0x80) != 0, byte < 0x20) << byte;
        EXPECT_EQ((equalBytes(word, 0x7f) >> shift & 0x80) != 0, byte == 0x7f) << byte;
      }
    }
  }
}

TEST(Words, EachWordSeesEveryByte) {
  for (std::size_t size = 0; size <= 24; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      std::string text(size, 'a');
      text[at] = 1;
      EXPECT_FALSE(
          eachWord(text, 'a', [](std::uint64_t word) { return belowBytes(word, 0x20) == 0; }));
    }
    EXPECT_TRUE(eachWord(std::string(size, 'a'), 'a',
                         [](std::uint64_t word) { return belowBytes(word, 0x20) == 0; }));
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
