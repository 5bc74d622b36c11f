// Random numbers for balancing, jitter and identifiers. Not for keys: those come from the TLS
// library.
#pragma once

#include <cstdint>
#include <string>

namespace postern::base {

/// xoshiro256**; one thread. Seeded from the kernel unless a seed is given (tests).
class Random {
 public:
  Random();
  explicit Random(std::uint64_t seed);
  std::uint64_t next();
  /// Uniform in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound);
  /// RFC 9562 version 4, 36 characters, lower case.
  std::string uuid();
  /// The same, written to a place of 36 characters.
  void writeUuid(char* out);

 private:
  std::uint64_t state_[4];
};

/// The calling thread's own.
Random& threadRandom();

}  // namespace postern::base
