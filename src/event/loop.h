// The event loop: file descriptors (epoll, edge-triggered, registered once), timers, work posted
// from other threads, and the end of a turn. One loop per thread; every object made on a loop
// belongs to it. Only post() and stop() may be called from other threads. Handles cancel by
// destruction: no callback runs after its handle is gone.
//
// A turn: wait → fd events → timers → posted work → what is due soon → prompt and turn-end hooks
// (flush) → destroy what was deferred. After each fd event, too, comes what is due soon, the prompt
// hooks (of a turn with many events: after each sixteenth) and what was deferred: so a connection
// is done with, its memory warm, before the next is looked at.
#pragma once

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/function.h"
#include "base/intrusive_list.h"

#include <cstdint>
#include <memory>
#include <vector>

#include <sys/types.h>

namespace postern::event {

class Loop;

/// What handles call: nearly always a lambda that captures its owner, and a connection has many.
using Callback = base::Function<void(), sizeof(void*)>;

/// Readiness of a descriptor, as a bit set. kHangup: the peer ended its direction, or the
/// descriptor failed.
enum Ready : std::uint32_t { kReadable = 1, kWritable = 2, kHangup = 4 };

/// Watches one descriptor, edge-triggered: after a report, read or write until the kernel says
/// EAGAIN (or a short read), else the next report may never come. Does not own the descriptor.
class FdWatch {
 public:
  using Callback = base::Function<void(std::uint32_t ready), sizeof(void*)>;
  FdWatch() = default;
  FdWatch(Loop& loop, int fd, Callback callback);
  FdWatch(FdWatch&& other) noexcept;
  FdWatch& operator=(FdWatch&& other) noexcept;
  ~FdWatch();
  /// Stops watching.
  void reset();
  explicit operator bool() const { return entry_ != nullptr; }

  struct Entry;  // private to the loop

 private:
  Entry* entry_ = nullptr;
};

/// A one-shot timer; may be armed again at any time, also from its callback. Resolution 1 ms.
class Timer {
 public:
  Timer(Loop& loop, Callback callback);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  void arm(base::Duration after);
  void cancel();
  bool armed() const { return heap_index_ != kNotArmed; }

 private:
  friend class Loop;
  static constexpr std::size_t kNotArmed = static_cast<std::size_t>(-1);
  Loop& loop_;
  Callback callback_;
  base::MonotonicTime deadline_{};
  std::size_t heap_index_ = kNotArmed;
};

/// Runs once at the end of the current turn after schedule(); scheduling twice in one turn runs it
/// once. Connections flush here, so that what one turn produced leaves in one write. kPrompt, for
/// connections that only one event of a turn writes to: at the end of the current descriptor's
/// event, so that an answer waits for nothing, but in a turn of more than sixteen events with those
/// of up to sixteen: writes one after the other find the peer awake.
class TurnEnd : public base::ListHook<> {
 public:
  enum class When : bool { kTurn, kPrompt };
  TurnEnd(Loop& loop, Callback callback, When when = When::kTurn)
      : loop_(loop), callback_(std::move(callback)), when_(when) {}
  void schedule();

 private:
  friend class Loop;
  Loop& loop_;
  Callback callback_;
  const When when_;
};

/// Runs once soon after schedule(), when no frame of this turn's events is on the stack: in the
/// same turn, but for what a turn-end hook schedules or comes after eight rounds of each other. For
/// what an object owes itself: a timer of zero would cost a turn of the poller.
class Soon : public base::ListHook<> {
 public:
  Soon(Loop& loop, Callback callback) : loop_(loop), callback_(std::move(callback)) {}
  void schedule();
  void cancel() { unlink(); }

 private:
  friend class Loop;
  Loop& loop_;
  Callback callback_;
};

/// Base of objects that must not be destroyed inside a callback of theirs: see Loop::destroyLater.
class Deferred {
 public:
  virtual ~Deferred() = default;
};

class Loop {
 public:
  explicit Loop(const base::Clock& clock = base::systemClock());
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Runs turns until stop().
  void run();
  /// One turn; waits at most `wait` for something to happen.
  void runOnce(base::Duration wait = {});
  /// Ends run() after the current turn. Any thread.
  void stop();

  /// Runs `work` on this loop in a later turn. Any thread; the only way in from outside.
  void post(base::Function<void()> work);
  /// Destroys the object at the end of the event, when no frame of it is on the stack.
  void destroyLater(std::unique_ptr<Deferred> object);

  /// Monotonic time, read once per turn.
  base::MonotonicTime now() const { return now_; }
  const base::Clock& clock() const { return clock_; }

  /// Calls back on the loop when `signal` arrives (blocked in all threads by the caller's main, see
  /// blockSignals).
  class SignalWatch {
   public:
    SignalWatch() = default;
    SignalWatch(Loop& loop, const std::vector<int>& signals,
                base::Function<void(int signal)> callback);

   private:
    struct State;
    std::shared_ptr<State> state_;
  };
  /// Blocks signals for the process; call in main before any thread exists. SIGPIPE is ignored.
  static void blockSignals(const std::vector<int>& signals);

 private:
  friend class FdWatch;
  friend class Timer;
  friend class TurnEnd;
  friend class Soon;
  struct Impl;

  void fireTimers();
  void runPosted();
  void runSoon();
  enum class Prompt : bool { kWait, kRun };
  void endEvent(Prompt prompt);
  void runPrompt();
  void destroyDeferred();
  void endTurn();

  const base::Clock& clock_;
  base::MonotonicTime now_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::event
