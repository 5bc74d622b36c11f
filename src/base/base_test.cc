#include "base/error.h"
#include "base/function.h"
#include "base/intrusive_list.h"
#include "base/published.h"
#include "base/random.h"
#include "base/strings.h"

#include <gtest/gtest.h>

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

TEST(Random, UuidHasVersionAndVariant) {
  Random random(1);
  std::string id = random.uuid();
  EXPECT_EQ(id.size(), 36u);
  EXPECT_EQ(id[14], '4');
  EXPECT_NE(std::string("89ab").find(id[19]), std::string::npos);
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
