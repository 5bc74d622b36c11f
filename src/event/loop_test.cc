#include "event/loop.h"

#include "base/random.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace postern::event {
namespace {

using std::chrono::milliseconds;

TEST(Timer, FiresInOrderOfDeadlineUnderAManualClock) {
  base::ManualClock clock;
  Loop loop(clock);
  base::Random random(7);
  std::vector<int> fired;
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 200; ++i) {
    int due = static_cast<int>(random.below(1000));
    timers.push_back(std::make_unique<Timer>(loop, [&fired, due] { fired.push_back(due); }));
    timers.back()->arm(milliseconds(due));
  }
  for (std::size_t i = 0; i < timers.size(); i += 3) timers[i].reset();
  clock.advance(milliseconds(1000));
  loop.runOnce();
  EXPECT_EQ(fired.size(), 133u);
  EXPECT_TRUE(std::is_sorted(fired.begin(), fired.end()));
}

TEST(Timer, MayDestroyAnotherOneFromItsCallback) {
  base::ManualClock clock;
  Loop loop(clock);
  std::unique_ptr<Timer> second;
  bool second_fired = false;
  Timer first(loop, [&] { second.reset(); });
  second = std::make_unique<Timer>(loop, [&] { second_fired = true; });
  first.arm(milliseconds(1));
  second->arm(milliseconds(2));
  clock.advance(milliseconds(5));
  loop.runOnce();
  EXPECT_FALSE(second_fired);
}

TEST(FdWatch, IsSilentAfterItsHandleIsGoneInTheSameTurn) {
  Loop loop;
  int a[2];
  int b[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
  int calls = 0;
  FdWatch first;
  FdWatch second;
  first = FdWatch(loop, a[0], [&](std::uint32_t) {
    ++calls;
    second.reset();
  });
  second = FdWatch(loop, b[0], [&](std::uint32_t) {
    ++calls;
    first.reset();
  });
  loop.runOnce();
  EXPECT_EQ(calls, 1);
  for (int fd : {a[0], a[1], b[0], b[1]}) ::close(fd);
}

TEST(Loop, RunsWorkPostedByOtherThreads) {
  Loop loop;
  int sum = 0;
  std::thread other([&] {
    for (int i = 1; i <= 100; ++i) loop.post([&sum, i] { sum += i; });
    loop.post([&loop] { loop.stop(); });
  });
  loop.run();
  other.join();
  EXPECT_EQ(sum, 5050);
}

TEST(TurnEnd, RunsOncePerTurn) {
  Loop loop;
  int runs = 0;
  TurnEnd hook(loop, [&] { ++runs; });
  loop.post([&] {
    hook.schedule();
    hook.schedule();
  });
  loop.runOnce();
  EXPECT_EQ(runs, 1);
}

TEST(TurnEnd, AHookThatComesAgainAndAgainLeavesTheTurn) {
  for (const auto when : {TurnEnd::When::kTurn, TurnEnd::When::kPrompt}) {
    Loop loop;
    int runs = 0;
    std::unique_ptr<TurnEnd> hook;
    hook = std::make_unique<TurnEnd>(
        loop,
        [&] {
          ++runs;
          hook->schedule();
        },
        when);
    hook->schedule();
    loop.runOnce();
    EXPECT_LE(runs, 200);
    const int before = runs;
    loop.runOnce();  // without waiting
    EXPECT_GT(runs, before);
  }
}

/// So many descriptors become readable at once, each with its prompt hook: what happened, in order.
std::string promptly(int descriptors) {
  Loop loop;
  std::string order;
  std::vector<base::Fd> ends;
  std::vector<std::unique_ptr<TurnEnd>> hooks;
  std::vector<FdWatch> watches;
  for (int i = 0; i < descriptors; ++i) {
    ends.emplace_back(::eventfd(1, EFD_NONBLOCK));
    hooks.push_back(std::make_unique<TurnEnd>(loop, [&] { order += 'w'; }, TurnEnd::When::kPrompt));
    watches.emplace_back(loop, ends.back().get(), [&, hook = hooks.back().get()](std::uint32_t) {
      order += 'r';
      hook->schedule();
    });
  }
  loop.runOnce();
  return order;
}

TEST(TurnEnd, PromptFollowsInTheSameTurnWhenATurnEndSchedulesIt) {
  Loop loop;
  bool done = false;
  TurnEnd prompt(loop, [&] { done = true; }, TurnEnd::When::kPrompt);
  TurnEnd end(loop, [&] { prompt.schedule(); });
  end.schedule();
  loop.runOnce();
  EXPECT_TRUE(done);
}

TEST(TurnEnd, PromptRunsAfterEachEventOrAfterSixteenOfMany) {
  EXPECT_EQ(promptly(3), "rwrwrw");
  const auto many = [](std::size_t count) {
    return std::string(count, 'r') + std::string(count, 'w');
  };
  std::string sixteen;
  for (int i = 0; i < 16; ++i) sixteen += "rw";
  EXPECT_EQ(promptly(16), sixteen);
  EXPECT_EQ(promptly(17), many(16) + many(1));
  EXPECT_EQ(promptly(40), many(16) + many(16) + many(8));
}

}  // namespace
}  // namespace postern::event
