#include "base/random.h"

#include <array>
#include <cstdlib>

#include <sys/random.h>

namespace postern::base {
namespace {

std::uint64_t rotateLeft(std::uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

std::uint64_t splitMix(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

constexpr auto kHexPairs = [] {
  constexpr char kDigits[] = "0123456789abcdef";
  std::array<std::array<char, 2>, 256> pairs{};
  for (std::size_t i = 0; i < pairs.size(); ++i) pairs[i] = {kDigits[i >> 4], kDigits[i & 15]};
  return pairs;
}();

}  // namespace

Random::Random() {
  if (::getrandom(state_, sizeof state_, 0) != static_cast<ssize_t>(sizeof state_)) std::abort();
}

Random::Random(std::uint64_t seed) {
  for (std::uint64_t& word : state_) word = splitMix(seed);
}

std::uint64_t Random::next() {
  const std::uint64_t result = rotateLeft(state_[1] * 5, 7) * 9;
  const std::uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = rotateLeft(state_[3], 45);
  return result;
}

std::uint64_t Random::below(std::uint64_t bound) {
  // Multiply-shift: the bias is below bound/2^64.
  return static_cast<std::uint64_t>((static_cast<__uint128_t>(next()) * bound) >> 64);
}

std::string Random::uuid() {
  std::string out(36, '-');
  writeUuid(out.data());
  return out;
}

void Random::writeUuid(char* out) {
  std::uint64_t words[2] = {next(), next()};
  words[0] = (words[0] & ~0xf000ULL) | 0x4000;
  words[1] = (words[1] & ~(3ULL << 62)) | (2ULL << 62);
  for (int byte = 0; byte < 16; ++byte) {
    if (byte == 4 || byte == 6 || byte == 8 || byte == 10) *out++ = '-';
    const auto& pair = kHexPairs[(words[byte >> 3] >> (56 - 8 * (byte & 7))) & 0xff];
    *out++ = pair[0];
    *out++ = pair[1];
  }
}

Random& threadRandom() {
  thread_local Random random;
  return random;
}

}  // namespace postern::base
