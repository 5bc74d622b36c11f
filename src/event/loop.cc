#include "event/loop.h"

#include "base/check.h"
#include "base/prefetch.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <utility>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace postern::event {
namespace {

constexpr int kEventsPerTurn = 64;
constexpr int kPromptEvents = 16;  // of a turn of more, so many share what is due promptly
constexpr int kSoonRounds = 8;
constexpr int kPromptRounds = 8;
constexpr base::Duration kForever = std::chrono::hours(24);

}  // namespace

struct FdWatch::Entry : base::ListHook<> {
  Loop* loop = nullptr;
  int fd = -1;
  bool dead = false;
  Callback callback;
};

struct Loop::Impl {
  base::Fd epoll;
  base::Fd wake;
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::vector<base::Function<void()>> posted;  // guarded by mutex
  bool wake_pending = false;                   // guarded by mutex
  std::vector<Timer*> heap;                    // min-heap by deadline; Timer knows its index
  base::IntrusiveList<TurnEnd> turn_end;
  base::IntrusiveList<TurnEnd> prompt;
  base::IntrusiveList<Soon> soon;
  std::vector<std::unique_ptr<Deferred>> deferred;
  std::vector<std::unique_ptr<Deferred>> destroying;  // empty but for its memory
  std::vector<FdWatch::Entry*> dead;  // freed at the end of the turn: epoll may still name them
  std::size_t watches = 0;
};

// ---- descriptors ----

FdWatch::FdWatch(Loop& loop, int fd, Callback callback) : entry_(new Entry) {
  entry_->loop = &loop;
  entry_->fd = fd;
  entry_->callback = std::move(callback);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = entry_;
  POSTERN_CHECK(::epoll_ctl(loop.impl_->epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0);
  ++loop.impl_->watches;
}

FdWatch::FdWatch(FdWatch&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}

FdWatch& FdWatch::operator=(FdWatch&& other) noexcept {
  if (this != &other) {
    reset();
    entry_ = std::exchange(other.entry_, nullptr);
  }
  return *this;
}

FdWatch::~FdWatch() { reset(); }

void FdWatch::reset() {
  if (entry_ == nullptr) return;
  Entry* entry = std::exchange(entry_, nullptr);
  Loop::Impl& impl = *entry->loop->impl_;
  ::epoll_ctl(impl.epoll.get(), EPOLL_CTL_DEL, entry->fd, nullptr);
  entry->dead = true;
  --impl.watches;
  impl.dead.push_back(entry);
}

// ---- timers ----

Timer::Timer(Loop& loop, Callback callback) : loop_(loop), callback_(std::move(callback)) {}

Timer::~Timer() { cancel(); }

void Timer::arm(base::Duration after) {
  cancel();
  deadline_ =
      loop_.clock_.monotonic() + std::chrono::duration_cast<base::MonotonicTime::duration>(after);
  auto& heap = loop_.impl_->heap;
  std::size_t at = heap.size();
  heap.push_back(this);
  while (at > 0) {
    std::size_t parent = (at - 1) / 2;
    if (heap[parent]->deadline_ <= deadline_) break;
    heap[at] = heap[parent];
    heap[at]->heap_index_ = at;
    at = parent;
  }
  heap[at] = this;
  heap_index_ = at;
}

void Timer::cancel() {
  if (heap_index_ == kNotArmed) return;
  auto& heap = loop_.impl_->heap;
  std::size_t at = std::exchange(heap_index_, kNotArmed);
  Timer* last = heap.back();
  heap.pop_back();
  if (last == this) return;
  // Put the last element into the hole and let it sink or rise.
  while (at > 0 && heap[(at - 1) / 2]->deadline_ > last->deadline_) {
    heap[at] = heap[(at - 1) / 2];
    heap[at]->heap_index_ = at;
    at = (at - 1) / 2;
  }
  for (;;) {
    std::size_t child = 2 * at + 1;
    if (child >= heap.size()) break;
    if (child + 1 < heap.size() && heap[child + 1]->deadline_ < heap[child]->deadline_) ++child;
    if (heap[child]->deadline_ >= last->deadline_) break;
    heap[at] = heap[child];
    heap[at]->heap_index_ = at;
    at = child;
  }
  heap[at] = last;
  last->heap_index_ = at;
}

void TurnEnd::schedule() {
  if (linked()) return;
  (when_ == When::kPrompt ? loop_.impl_->prompt : loop_.impl_->turn_end).pushBack(*this);
}

void Soon::schedule() {
  if (!linked()) loop_.impl_->soon.pushBack(*this);
}

// ---- the loop ----

namespace {

constexpr std::size_t kTargetBytes = 256;  // of the object that an event is for

/// Asks for what the event at `next` needs; the entry of the one behind it, which says where that
/// is.
void prefetchEvents(const epoll_event* events, int count, int next) {
  if (next + 1 < count) base::prefetch(events[next + 1].data.ptr, sizeof(FdWatch::Entry));
  if (next >= count || events[next].data.ptr == nullptr) return;
  base::prefetch(static_cast<FdWatch::Entry*>(events[next].data.ptr)->callback.captured(),
                 kTargetBytes);
}

}  // namespace

Loop::Loop(const base::Clock& clock)
    : clock_(clock), now_(clock.monotonic()), impl_(std::make_unique<Impl>()) {
  impl_->epoll = base::Fd(::epoll_create1(EPOLL_CLOEXEC));
  POSTERN_CHECK(static_cast<bool>(impl_->epoll));
  impl_->wake = base::Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  POSTERN_CHECK(static_cast<bool>(impl_->wake));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.ptr = nullptr;
  POSTERN_CHECK(::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_ADD, impl_->wake.get(), &event) == 0);
}

Loop::~Loop() {
  // Posted work and deferred objects may own handles of this loop: release them while it still
  // stands.
  endTurn();
  std::vector<base::Function<void()>> posted;
  {
    std::lock_guard lock(impl_->mutex);
    posted.swap(impl_->posted);
  }
  posted.clear();
  endTurn();
}

void Loop::run() {
  while (!impl_->stop.load(std::memory_order_acquire)) runOnce(kForever);
  impl_->stop.store(false, std::memory_order_release);
}

void Loop::stop() {
  impl_->stop.store(true, std::memory_order_release);
  std::uint64_t one = 1;
  [[maybe_unused]] ssize_t n = ::write(impl_->wake.get(), &one, sizeof one);
}

void Loop::post(base::Function<void()> work) {
  bool wake = false;
  {
    std::lock_guard lock(impl_->mutex);
    impl_->posted.push_back(std::move(work));
    wake = !std::exchange(impl_->wake_pending, true);
  }
  if (wake) {
    std::uint64_t one = 1;
    [[maybe_unused]] ssize_t n = ::write(impl_->wake.get(), &one, sizeof one);
  }
}

void Loop::destroyLater(std::unique_ptr<Deferred> object) {
  impl_->deferred.push_back(std::move(object));
}

void Loop::runOnce(base::Duration wait) {
  now_ = clock_.monotonic();
  if (!impl_->heap.empty())
    wait = std::min<base::Duration>(wait, impl_->heap.front()->deadline_ - now_);
  if (!impl_->turn_end.empty() || !impl_->prompt.empty() || !impl_->deferred.empty() ||
      !impl_->soon.empty())
    wait = {};
  auto milliseconds =
      std::chrono::ceil<std::chrono::milliseconds>(std::max<base::Duration>(wait, {})).count();
  epoll_event events[kEventsPerTurn];
  int count = ::epoll_wait(impl_->epoll.get(), events, kEventsPerTurn,
                           static_cast<int>(std::min<long>(milliseconds, 3'600'000)));
  now_ = clock_.monotonic();
  prefetchEvents(events, count, 0);
  for (int i = 0; i < count; ++i) {
    prefetchEvents(events, count, i + 1);
    auto* entry = static_cast<FdWatch::Entry*>(events[i].data.ptr);
    if (entry == nullptr || entry->dead) continue;
    std::uint32_t ready = 0;
    if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) ready |= kReadable;
    if (events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) ready |= kWritable;
    if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) ready |= kHangup;
    entry->callback(ready);
    const bool prompt = count <= kPromptEvents || (i + 1) % kPromptEvents == 0;
    endEvent(prompt ? Prompt::kRun : Prompt::kWait);
  }
  fireTimers();
  runPosted();
  runSoon();
  endTurn();
}

void Loop::fireTimers() {
  auto& heap = impl_->heap;
  // Timers armed for "now" by a callback fire in the next turn: compare with this turn's time only.
  while (!heap.empty() && heap.front()->deadline_ <= now_) {
    Timer* timer = heap.front();
    timer->cancel();
    timer->callback_();
  }
}

void Loop::runPosted() {
  std::vector<base::Function<void()>> work;
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->wake_pending) {
      std::uint64_t drained = 0;
      [[maybe_unused]] ssize_t n = ::read(impl_->wake.get(), &drained, sizeof drained);
      impl_->wake_pending = false;
    }
    work.swap(impl_->posted);
  }
  for (auto& each : work) each();
}

void Loop::runSoon() {
  // What runs may schedule more, each other included: after some rounds the poller has its turn, so
  // that nobody starves.
  for (int round = 0; round < kSoonRounds && !impl_->soon.empty(); ++round) {
    base::IntrusiveList<Soon> now;
    while (Soon* each = impl_->soon.popFront()) now.pushBack(*each);
    while (Soon* each = now.popFront()) each->callback_();
  }
}

void Loop::endEvent(Prompt prompt) {
  if (!impl_->soon.empty()) runSoon();
  if (prompt == Prompt::kRun) runPrompt();
  if (!impl_->deferred.empty()) destroyDeferred();
}

void Loop::destroyDeferred() {
  while (!impl_->deferred.empty()) {
    impl_->destroying.swap(impl_->deferred);
    impl_->destroying.clear();
  }
}

/// A flush that makes room may bring the next one: after some rounds others have their turn.
void Loop::runPrompt() {
  for (int round = 0; round < kPromptRounds && !impl_->prompt.empty(); ++round) {
    base::IntrusiveList<TurnEnd> now;
    while (TurnEnd* hook = impl_->prompt.popFront()) now.pushBack(*hook);
    while (TurnEnd* hook = now.popFront()) hook->callback_();
  }
}

void Loop::endTurn() {
  // A flush may schedule another one (closing a connection inside it): after some rounds the rest
  // is left to the next turn.
  constexpr int kRounds = 16;
  for (int round = 0; round < kRounds; ++round) {
    runPrompt();
    if (impl_->turn_end.empty()) break;
    base::IntrusiveList<TurnEnd> now;
    while (TurnEnd* hook = impl_->turn_end.popFront()) now.pushBack(*hook);
    while (TurnEnd* hook = now.popFront()) hook->callback_();
  }
  destroyDeferred();
  for (FdWatch::Entry* entry : impl_->dead) delete entry;
  impl_->dead.clear();
}

// ---- signals ----

struct Loop::SignalWatch::State {
  base::Fd fd;
  base::Function<void(int)> callback;
  FdWatch watch;
};

Loop::SignalWatch::SignalWatch(Loop& loop, const std::vector<int>& signals,
                               base::Function<void(int)> callback)
    : state_(std::make_shared<State>()) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : signals) sigaddset(&set, signal);
  state_->fd = base::Fd(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  POSTERN_CHECK(static_cast<bool>(state_->fd));
  state_->callback = std::move(callback);
  State* state = state_.get();
  state_->watch = FdWatch(loop, state_->fd.get(), [state](std::uint32_t) {
    signalfd_siginfo info{};
    while (::read(state->fd.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      state->callback(static_cast<int>(info.ssi_signo));
    }
  });
}

void Loop::blockSignals(const std::vector<int>& signals) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : signals) sigaddset(&set, signal);
  POSTERN_CHECK(::pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  ::signal(SIGPIPE, SIG_IGN);
}

}  // namespace postern::event
