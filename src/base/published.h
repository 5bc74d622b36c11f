// A value that one thread publishes and others take: an immutable object by shared ownership. For
// what is asked for now and then (once per connection), not per request: taking locks for a moment.
// std::atomic<std::shared_ptr> would say the same, but its load in libstdc++ 12 unlocks without
// release order, so a store that follows races with it.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace postern::base {

template <class T>
class Published {
 public:
  /// Null until something was published. Any thread.
  std::shared_ptr<const T> get() const {
    const std::lock_guard lock(mutex_);
    return value_;
  }
  /// The one before is let go of outside of the lock. Any thread.
  void set(std::shared_ptr<const T> value) {
    {
      const std::lock_guard lock(mutex_);
      value_.swap(value);
    }
    value.reset();
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const T> value_;
};

}  // namespace postern::base
