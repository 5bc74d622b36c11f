#include "node/work_pool.h"

namespace postern::node {

WorkPool::WorkPool(event::Loop& loop, int threads) : loop_(loop) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

WorkPool::~WorkPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkPool::submit(base::Function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void WorkPool::finish(std::weak_ptr<void> watch, base::Function<void()> done) {
  loop_.post([watch = std::move(watch), done = std::move(done)]() mutable {
    if (watch.lock()) done();
  });
}

void WorkPool::work() {
  while (true) {
    base::Function<void()> task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace postern::node
