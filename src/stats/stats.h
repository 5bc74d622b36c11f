// Statistics with Envoy's names. Each thread owns a store and alone writes its counters, gauges and
// histograms; values are added up over the stores when somebody reads them. Resolve a name once
// (per cluster, listener, connection manager) and keep the reference: a scope lives as long as its
// store, or until who made it forgets it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace postern::stats {

/// Only goes up. Written by one thread, so a plain addition suffices; read by any.
class Counter {
 public:
  void add(std::uint64_t count = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  void reset() { value_.store(0, std::memory_order_relaxed); }
  std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class Gauge {
 public:
  void add(std::int64_t count = 1) {
    value_.store(value() + count, std::memory_order_relaxed);
    used_.store(true, std::memory_order_relaxed);
  }
  void sub(std::int64_t count = 1) { add(-count); }
  void set(std::int64_t value) {
    value_.store(value, std::memory_order_relaxed);
    used_.store(true, std::memory_order_relaxed);
  }
  std::int64_t value() const { return value_.load(std::memory_order_relaxed); }
  bool used() const { return used_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
  std::atomic<bool> used_{false};
};

/// Upper bounds of Envoy's default buckets; one more bucket holds what is above.
inline constexpr std::array<double, 19> kHistogramBounds = {
    0.5,  1,    5,     10,    25,    50,     100,    250,     500,    1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};

class Histogram {
 public:
  void record(double value);
  struct Values {
    std::array<std::uint64_t, kHistogramBounds.size() + 1> buckets{};  // not cumulative
    std::uint64_t count = 0;
    double sum = 0;
    /// Interpolated inside its bucket; 0 <= quantile <= 1.
    double quantile(double quantile) const;
  };
  void addTo(Values& values) const;

 private:
  std::array<std::atomic<std::uint64_t>, kHistogramBounds.size() + 1> buckets_{};
  std::atomic<double> sum_{0};
};

/// The statistics of one prefix ("cluster.web.") in one store. References stay valid.
class Scope {
 public:
  explicit Scope(std::string prefix) : prefix_(std::move(prefix)) {}
  const std::string& prefix() const { return prefix_; }
  /// Finds or makes; `name` is what follows the prefix.
  Counter& counter(std::string_view name);
  Gauge& gauge(std::string_view name);
  Histogram& histogram(std::string_view name);

 private:
  friend class Stats;
  template <class T>
  using Named = std::map<std::string, T, std::less<>>;
  const std::string prefix_;
  mutable std::mutex mutex_;  // against a reader on another thread; values need none
  Named<Counter> counters_;
  Named<Gauge> gauges_;
  Named<Histogram> histograms_;
  std::atomic<bool> hidden_{false};
  friend class Store;
};

class Store {
 public:
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  /// Finds or makes; shows it again if it was hidden.
  Scope& scope(std::string_view prefix);
  /// Ends the scope: nobody has a reference to it or to what is in it. On the owning thread.
  void forget(std::string_view prefix);
  /// What it counts is not told any more (its cluster or listener is gone). References stay valid.
  void hide(std::string_view prefix);
  /// How many there are, hidden ones too. On the owning thread.
  std::size_t scopes() const { return scopes_.size(); }
  /// Sets the counters to 0. On the owning thread.
  void resetCounters();

 private:
  friend class Stats;
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Scope>, std::less<>> scopes_;
};

/// All stores of the process. Made before the threads; read by any thread.
class Stats {
 public:
  Stats() = default;
  Stats(const Stats&) = delete;
  Stats& operator=(const Stats&) = delete;
  Store& makeStore();

  struct Value {
    enum class Kind : unsigned char { kCounter, kGauge, kHistogram };
    Kind kind = Kind::kCounter;
    bool used = false;  // was ever written
    std::int64_t number = 0;
    Histogram::Values histogram;
  };
  /// Sums by full name, sorted.
  std::map<std::string, Value> read() const;
  /// The sum of one counter or gauge; 0 when there is none. For tests and for /ready.
  std::int64_t value(std::string_view name) const;
  /// What the process before counted (hot restart): added to what is read. Replaces what was set
  /// before.
  void setInherited(std::map<std::string, Value> values);
  /// That process is gone: its counters stay, its gauges do not.
  void endInheritedGauges();
  /// What is inherited by now counts no more.
  void resetInheritedCounters();

 private:
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Store>> stores_;
  std::map<std::string, Value> inherited_;
  std::map<std::string, std::int64_t> forgotten_;  // of inherited_, by reset
};

/// A name as part of a statistic's name: ':' becomes '_', as Envoy writes addresses and clusters.
std::string statName(std::string_view name);

}  // namespace postern::stats
