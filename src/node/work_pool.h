// Threads for calls that block (the API, namespaces, disks), so that the node's loop never does.
// Loop thread, except that `work` runs on a thread of the pool.
#pragma once

#include "base/function.h"
#include "event/loop.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace postern::node {

/// Held by whoever waits for results: with it gone, they are dropped.
class Alive {
 public:
  std::weak_ptr<void> watch() const { return token_; }

 private:
  std::shared_ptr<void> token_ = std::make_shared<char>();
};

class WorkPool {
 public:
  WorkPool(event::Loop& loop, int threads);
  ~WorkPool();  // waits for the calls that run; drops those that do not yet

  /// Runs `work` on a thread, then `done(result)` on the loop if `alive` still is.
  template <class Work, class Done>
  void run(const Alive& alive, Work work, Done done) {
    submit([this, watch = alive.watch(), work = std::move(work), done = std::move(done)]() mutable {
      auto result = work();
      finish(watch, [result = std::move(result), done = std::move(done)]() mutable {
        done(std::move(result));
      });
    });
  }

 private:
  void submit(base::Function<void()> task);
  void finish(std::weak_ptr<void> watch, base::Function<void()> done);
  void work();

  event::Loop& loop_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;                     // guarded by mutex_
  std::deque<base::Function<void()>> tasks_;  // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace postern::node
