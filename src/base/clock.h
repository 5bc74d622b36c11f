// Time as a parameter: the loop, timers and tests take a Clock, so tests run with a manual one.
#pragma once

#include <chrono>

namespace postern::base {

using MonotonicTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;
using Duration = std::chrono::nanoseconds;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual MonotonicTime monotonic() const = 0;
  virtual WallTime wall() const = 0;
};

/// The machine's clock; stateless, any thread.
const Clock& systemClock();

/// A clock that stands still until told. One thread.
class ManualClock final : public Clock {
 public:
  MonotonicTime monotonic() const override { return now_; }
  WallTime wall() const override {
    return WallTime(std::chrono::duration_cast<WallTime::duration>(now_.time_since_epoch()));
  }
  void advance(Duration by) { now_ += std::chrono::duration_cast<MonotonicTime::duration>(by); }

 private:
  MonotonicTime now_{std::chrono::hours(1)};
};

}  // namespace postern::base
