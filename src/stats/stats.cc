#include "stats/stats.h"

#include <algorithm>

namespace postern::stats {

namespace {

template <class T>
T& findOrMake(std::map<std::string, T, std::less<>>& all, std::mutex& mutex,
              std::string_view name) {
  // Only the owning thread inserts, so it may look without the lock.
  auto it = all.find(name);
  if (it != all.end()) return it->second;
  const std::lock_guard lock(mutex);
  return all.try_emplace(std::string(name)).first->second;
}

}  // namespace

void Histogram::record(double value) {
  const auto* bound = std::lower_bound(kHistogramBounds.begin(), kHistogramBounds.end(), value);
  auto& bucket = buckets_[static_cast<std::size_t>(bound - kHistogramBounds.begin())];
  bucket.store(bucket.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  sum_.store(sum_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

void Histogram::addTo(Values& values) const {
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    const std::uint64_t count = buckets_[i].load(std::memory_order_relaxed);
    values.buckets[i] += count;
    values.count += count;
  }
  values.sum += sum_.load(std::memory_order_relaxed);
}

double Histogram::Values::quantile(double quantile) const {
  if (count == 0) return 0;
  const double wanted = quantile * static_cast<double>(count);
  double below = 0;
  for (std::size_t i = 0; i < kHistogramBounds.size(); ++i) {
    const auto here = static_cast<double>(buckets[i]);
    if (here > 0 && below + here >= wanted) {
      const double low = i == 0 ? 0 : kHistogramBounds[i - 1];
      return low + (kHistogramBounds[i] - low) * std::max(0.0, wanted - below) / here;
    }
    below += here;
  }
  return kHistogramBounds.back();
}

Counter& Scope::counter(std::string_view name) { return findOrMake(counters_, mutex_, name); }
Gauge& Scope::gauge(std::string_view name) { return findOrMake(gauges_, mutex_, name); }
Histogram& Scope::histogram(std::string_view name) { return findOrMake(histograms_, mutex_, name); }

Scope& Store::scope(std::string_view prefix) {
  auto it = scopes_.find(prefix);
  if (it == scopes_.end()) {
    const std::lock_guard lock(mutex_);
    it = scopes_.emplace(std::string(prefix), std::make_unique<Scope>(std::string(prefix))).first;
  }
  it->second->hidden_.store(false, std::memory_order_relaxed);
  return *it->second;
}

void Store::resetCounters() {
  // Only this thread inserts.
  for (auto& [prefix, scope] : scopes_) {
    for (auto& [name, counter] : scope->counters_) counter.reset();
  }
}

void Store::forget(std::string_view prefix) {
  const auto it = scopes_.find(prefix);
  if (it == scopes_.end()) return;
  const std::lock_guard lock(mutex_);
  scopes_.erase(it);
}

void Store::hide(std::string_view prefix) {
  const auto it = scopes_.find(prefix);
  if (it != scopes_.end()) it->second->hidden_.store(true, std::memory_order_relaxed);
}

Store& Stats::makeStore() {
  const std::lock_guard lock(mutex_);
  stores_.push_back(std::make_unique<Store>());
  return *stores_.back();
}

std::map<std::string, Stats::Value> Stats::read() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, Value> out = inherited_;
  for (const auto& [name, count] : forgotten_) {
    if (const auto it = out.find(name); it != out.end()) it->second.number -= count;
  }
  for (const auto& store : stores_) {
    const std::lock_guard store_lock(store->mutex_);
    for (const auto& [prefix, scope] : store->scopes_) {
      if (scope->hidden_.load(std::memory_order_relaxed)) continue;
      const std::lock_guard scope_lock(scope->mutex_);
      for (const auto& [name, counter] : scope->counters_) {
        Value& value = out[prefix + name];
        value.number += static_cast<std::int64_t>(counter.value());
        value.used = value.used || counter.value() != 0;
      }
      for (const auto& [name, gauge] : scope->gauges_) {
        Value& value = out[prefix + name];
        value.kind = Value::Kind::kGauge;
        value.number += gauge.value();
        value.used = value.used || gauge.used();
      }
      for (const auto& [name, histogram] : scope->histograms_) {
        Value& value = out[prefix + name];
        value.kind = Value::Kind::kHistogram;
        histogram.addTo(value.histogram);
        value.used = value.used || value.histogram.count != 0;
      }
    }
  }
  return out;
}

void Stats::setInherited(std::map<std::string, Value> values) {
  const std::lock_guard lock(mutex_);
  inherited_ = std::move(values);
}

void Stats::endInheritedGauges() {
  const std::lock_guard lock(mutex_);
  std::erase_if(inherited_,
                [](const auto& each) { return each.second.kind == Value::Kind::kGauge; });
}

void Stats::resetInheritedCounters() {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, value] : inherited_) {
    if (value.kind == Value::Kind::kCounter) forgotten_[name] = value.number;
  }
}

std::int64_t Stats::value(std::string_view name) const {
  const auto all = read();
  const auto it = all.find(std::string(name));
  return it == all.end() ? 0 : it->second.number;
}

std::string statName(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), ':', '_');
  return out;
}

}  // namespace postern::stats
