#include "codec/hpack.h"

#include <gtest/gtest.h>

#include <vector>

namespace postern::codec {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

struct Collect final : HpackSink {
  Fields fields;
  void onField(std::string_view name, std::string_view value) override {
    fields.emplace_back(name, value);
  }
};

std::string hex(std::string_view digits) {
  std::string out;
  std::string pair;
  for (char c : digits) {
    if (c == ' ') continue;
    pair += c;
    if (pair.size() < 2) continue;
    out += static_cast<char>(std::stoi(pair, nullptr, 16));
    pair.clear();
  }
  return out;
}

Fields decodeBlock(HpackDecoder& decoder, std::string_view digits) {
  Collect sink;
  EXPECT_EQ(decoder.decode(hex(digits), sink), HpackDecoder::Status::kOk) << digits;
  return sink.fields;
}

TEST(Hpack, DecodesTheRequestsOfAppendixC4) {
  HpackDecoder decoder(65536, 100);
  Fields want = {
      {":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "www.example.com"}};
  EXPECT_EQ(decodeBlock(decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"), want);
  want.push_back({"cache-control", "no-cache"});
  EXPECT_EQ(decodeBlock(decoder, "8286 84be 5886 a8eb 1064 9cbf"), want);
  want = {{":method", "GET"},
          {":scheme", "https"},
          {":path", "/index.html"},
          {":authority", "www.example.com"},
          {"custom-key", "custom-value"}};
  EXPECT_EQ(decodeBlock(decoder, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"),
            want);
  EXPECT_EQ(decoder.table().size(), 164u);
}

TEST(Hpack, DecodesPlainLiteralsOfAppendixC3) {
  HpackDecoder decoder(65536, 100);
  Fields want = {
      {":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "www.example.com"}};
  EXPECT_EQ(decodeBlock(decoder, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"), want);
  EXPECT_EQ(decoder.table().size(), 57u);
}

TEST(Hpack, DecodesAppendixC2) {
  HpackDecoder decoder(65536, 100);
  EXPECT_EQ(
      decodeBlock(decoder, "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"),
      (Fields{{"custom-key", "custom-header"}}));
  EXPECT_EQ(decodeBlock(decoder, "040c 2f73 616d 706c 652f 7061 7468"),
            (Fields{{":path", "/sample/path"}}));
  EXPECT_EQ(decodeBlock(decoder, "1008 7061 7373 776f 7264 0673 6563 7265 74"),
            (Fields{{"password", "secret"}}));
  EXPECT_EQ(decoder.table().count(), 1u);
}

TEST(Hpack, RefusesBrokenBlocks) {
  for (const char* broken : {
           "80",                    // index 0
           "be",                    // beyond the table
           "ff ff ff ff ff ff 0f",  // integer too long
           "41",                    // value missing
           "41 05 61",              // value cut
           "82 3f e1 1f",           // size update after a field
           "3f e2 1f",              // size update above the setting
           "41 81 00",              // padding of zeros
           "41 82 ff ff",           // padding longer than 7 bits
           "41 84 ff ff ff ff"      // EOS
       }) {
    HpackDecoder decoder(65536, 100);
    Collect sink;
    EXPECT_EQ(decoder.decode(hex(broken), sink), HpackDecoder::Status::kError) << broken;
  }
}

TEST(Hpack, BoundsTheListButKeepsTheTable) {
  HpackEncoder encoder;
  std::string block;
  encoder.begin(block);
  encoder.encode("x-big", std::string(500, 'a'), block);
  for (int i = 0; i < 1000; ++i) block += '\xbe';  // the same entry again
  encoder.encode("x-last", "1", block);
  HpackDecoder decoder(4096, 100);
  Collect sink;
  EXPECT_EQ(decoder.decode(block, sink), HpackDecoder::Status::kTooLarge);
  EXPECT_LT(sink.fields.size(), 9u);
  EXPECT_EQ(decoder.table().name(0), "x-last");
}

TEST(Hpack, EncodesWhatItDecodes) {
  HpackEncoder encoder;
  HpackDecoder decoder(65536, 100);
  for (int round = 0; round < 200; ++round) {
    Fields fields = {{":method", "POST"},
                     {":path", "/a/" + std::to_string(round)},
                     {"authorization", "Bearer x"},
                     {"x-round", std::string(static_cast<std::size_t>(round), 'r')},
                     {"content-type", "application/grpc"},
                     {"empty", ""}};
    if (round == 50) encoder.setPeerTableSize(0);
    if (round == 60) encoder.setPeerTableSize(300);
    std::string block;
    encoder.begin(block);
    for (const auto& [name, value] : fields) encoder.encode(name, value, block);
    Collect sink;
    ASSERT_EQ(decoder.decode(block, sink), HpackDecoder::Status::kOk);
    ASSERT_EQ(sink.fields, fields);
  }
}

TEST(Hpack, HuffmanCodesEveryByte) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  for (std::size_t from = 0; from < 256; ++from) {
    const std::string_view text = std::string_view(all).substr(from);
    std::string coded(huffmanSize(text), '\0');
    EXPECT_EQ(huffmanEncode(text, coded.data()), coded.data() + coded.size());
    std::string back;
    ASSERT_TRUE(huffmanDecode(coded, back, 1000));
    EXPECT_EQ(back, all.substr(from));
  }
}

TEST(Hpack, HuffmanEndsInLessThanAByteOfOnes) {
  const std::string letters = "the quick brown fox, 0123456789; Jumps";
  for (std::size_t size = 1; size <= letters.size(); ++size) {
    const std::string_view text = std::string_view(letters).substr(0, size);
    std::string coded(huffmanSize(text), '\0');
    huffmanEncode(text, coded.data());
    std::string back;
    EXPECT_TRUE(huffmanDecode(coded, back, size));
    EXPECT_EQ(back, text);
    std::string shorter;
    EXPECT_FALSE(huffmanDecode(coded, shorter, size - 1));
    // A whole byte of padding, and padding with a zero in it.
    EXPECT_FALSE(huffmanDecode(coded + '\xff', back, 1000));
    if ((coded.back() & 1) == 0) continue;  // it ends without padding
    coded.back() = static_cast<char>(coded.back() & 0xfe);
    std::string other;  // the last bit is padding, or that of another symbol
    EXPECT_TRUE(!huffmanDecode(coded, other, 1000) || other != text) << text;
  }
  std::string out;
  EXPECT_FALSE(huffmanDecode("\xff\xff\xff\xff", out, 1000));  // EOS
  EXPECT_TRUE(huffmanDecode("", out, 0));
}

TEST(Hpack, FindsEachStaticField) {
  for (std::size_t i = 1; i <= kHpackStaticCount; ++i) {
    const HpackStaticField& field = hpackStatic(i);
    const HpackStaticMatch match = hpackStaticFind(field.name, field.value);
    EXPECT_EQ(match.field, field.value.empty() ? 0 : i) << field.name;
    EXPECT_EQ(hpackStatic(match.name).name, field.name);
    EXPECT_TRUE(match.name == 1 || hpackStatic(match.name - 1).name != field.name);
    const HpackStaticMatch other = hpackStaticFind(field.name, "another value");
    EXPECT_EQ(other.field, 0u);
    EXPECT_EQ(other.name, match.name);
  }
  for (const char* unknown : {"", "x", "xvia", "accept-chars", "set-cookid", ":statusx"}) {
    EXPECT_EQ(hpackStaticFind(unknown, "").name, 0u) << unknown;
  }
}

TEST(HpackTable, KeepsItsEntriesWhereverTheyAreMoved) {
  HpackTable table;
  table.setCapacity(400);
  std::vector<std::pair<std::string, std::string>> known;  // newest first
  std::size_t size = 0;
  for (int i = 0; i < 500; ++i) {
    std::string name = "name-" + std::to_string(i % 37);
    const std::string value(static_cast<std::size_t>(i * 7 % 90), static_cast<char>('a' + i % 26));
    // As with an indexed name: a view of an entry, also of one that must go.
    const bool own = i % 3 == 0 && table.count() > 0;
    std::string_view given = name;
    if (own) {
      given = table.name(table.count() - 1);
      name = given;
    }
    table.add(given, value);
    known.insert(known.begin(), {name, value});
    size += name.size() + value.size() + HpackTable::kEntryOverhead;
    while (size > table.capacity()) {
      size -= known.back().first.size() + known.back().second.size() + HpackTable::kEntryOverhead;
      known.pop_back();
    }
    ASSERT_EQ(table.size(), size);
    ASSERT_EQ(table.count(), known.size());
    for (std::size_t k = 0; k < known.size(); ++k) {
      ASSERT_EQ(table.name(k), known[k].first);
      ASSERT_EQ(table.value(k), known[k].second);
    }
  }
  table.add("too-long", std::string(400, 'x'));
  EXPECT_EQ(table.count(), 0u);
  EXPECT_EQ(table.size(), 0u);
  // Smaller, larger, none, and again.
  for (const std::size_t capacity : {100U, 0U, 1000U, 40U, 333U}) {
    table.setCapacity(capacity);
    EXPECT_LE(table.size(), capacity);
    table.add("", "");
    table.add("name", "value");
    const std::size_t fit = capacity < 32 ? 0 : capacity < 41 ? 0 : capacity < 41 + 32 ? 1 : 2;
    EXPECT_EQ(table.count(), fit) << capacity;
    if (fit == 0) continue;
    EXPECT_EQ(table.name(0), "name");
    table.add(table.name(0), table.value(0));
    EXPECT_EQ(table.value(0), "value");
  }
}

}  // namespace
}  // namespace postern::codec
