#include "demo/load.h"

#include "http/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

namespace postern::demo {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr milliseconds kTick{1};
constexpr std::chrono::seconds kRequestTimeout{10};
constexpr std::size_t kSamplesMax = 1'000'000;

class LoadImpl final : public Load {
 public:
  LoadImpl(event::Loop& loop, LoadOptions options, base::Function<void(LoadReport)> done)
      : loop_(loop),
        options_(std::move(options)),
        done_(std::move(done)),
        began_(loop.clock().monotonic()),
        ticker_(loop, [this] { tick(); }) {
    http::Client::Options to;
    to.address = options_.address;
    to.host = options_.host;
    to.connections_max = options_.connections;
    client_ = http::Client::make(loop_, std::move(to));
    slots_.resize(options_.connections);
    ticker_.arm({});
  }

 private:
  /// One request at a time; as many slots as connections.
  struct Slot {
    std::unique_ptr<http::Client::Call> call;
    base::MonotonicTime sent;
    bool busy = false;
  };

  void tick() {
    const auto elapsed = loop_.clock().monotonic() - began_;
    if (elapsed >= options_.duration) return stop();
    std::uint64_t due = options_.connections;
    if (options_.requests_per_second > 0) {
      auto us = static_cast<std::uint64_t>(duration_cast<microseconds>(elapsed).count());
      // The first request is due at once.
      due = us * options_.requests_per_second / 1'000'000 + 1 - scheduled_;
      scheduled_ += due;
    }
    for (Slot& slot : slots_) {
      if (due == 0) break;
      if (slot.busy) continue;
      send(slot);
      --due;
    }
    if (options_.requests_per_second > 0) report_.skipped += due;
    ticker_.arm(kTick);
  }
  void send(Slot& slot) {
    http::ClientRequest request;
    request.path = options_.path;
    request.headers = options_.headers;
    request.timeout = kRequestTimeout;
    slot.busy = true;
    slot.sent = loop_.clock().monotonic();
    slot.call = client_->fetch(
        std::move(request),
        [this, &slot](base::Result<http::ClientResponse> response) { answered(slot, response); });
  }
  void answered(Slot& slot, const base::Result<http::ClientResponse>& response) {
    slot.busy = false;
    if (response) {
      ++report_.answers;
      ++report_.by_status[response->status];
      if (samples_.size() < kSamplesMax)
        samples_.push_back(duration_cast<microseconds>(loop_.clock().monotonic() - slot.sent));
    } else {
      ++report_.errors[response.error().message()];
    }
    // After an error the next tick asks again: no spinning against a dead server.
    if (options_.requests_per_second == 0 && response && !stopped_) send(slot);
    if (stopped_) finishWhenQuiet();
  }
  void stop() {
    stopped_ = true;
    finishWhenQuiet();
  }
  void finishWhenQuiet() {
    for (const Slot& slot : slots_) {
      if (slot.busy) return;
    }
    if (!done_) return;
    report_.took = duration_cast<milliseconds>(loop_.clock().monotonic() - began_);
    std::sort(samples_.begin(), samples_.end());
    if (!samples_.empty()) {
      report_.p50 = samples_[samples_.size() / 2];
      report_.p99 = samples_[samples_.size() * 99 / 100];
      report_.max = samples_.back();
    }
    std::exchange(done_, nullptr)(std::move(report_));
  }

  event::Loop& loop_;
  LoadOptions options_;
  base::Function<void(LoadReport)> done_;
  base::MonotonicTime began_;
  event::Timer ticker_;
  std::unique_ptr<http::Client> client_;
  std::vector<Slot> slots_;
  std::vector<microseconds> samples_;
  LoadReport report_;
  std::uint64_t scheduled_ = 0;
  bool stopped_ = false;
};

}  // namespace

std::string LoadReport::toString() const {
  std::string out;
  auto to = std::back_inserter(out);
  const double seconds = std::max(0.001, static_cast<double>(took.count()) / 1000.0);
  fmt::format_to(to, "answers   {} in {:.1f} s ({:.1f}/s)\n", answers, seconds,
                 static_cast<double>(answers) / seconds);
  fmt::format_to(to, "latency   p50 {:.2f} ms  p99 {:.2f} ms  max {:.2f} ms\n",
                 static_cast<double>(p50.count()) / 1000.0,
                 static_cast<double>(p99.count()) / 1000.0,
                 static_cast<double>(max.count()) / 1000.0);
  for (const auto& [status, count] : by_status) fmt::format_to(to, "{}       {}\n", status, count);
  for (const auto& [error, count] : errors) fmt::format_to(to, "error     {} ({})\n", count, error);
  if (skipped > 0) fmt::format_to(to, "skipped   {} (all connections busy)\n", skipped);
  return out;
}

std::unique_ptr<Load> Load::start(event::Loop& loop, LoadOptions options,
                                  base::Function<void(LoadReport)> done) {
  return std::make_unique<LoadImpl>(loop, std::move(options), std::move(done));
}

}  // namespace postern::demo
