#include "controllers/rollout.h"

#include <algorithm>
#include <cstdint>

namespace postern::controllers {

RolloutPlan planRollout(long long desired, long long surge_max, long long unavailable_max,
                        RolloutSet fresh, const std::vector<RolloutSet>& old) {
  RolloutPlan plan{fresh.replicas, {}};
  long long total = fresh.replicas;
  long long available = fresh.available;
  for (const RolloutSet& set : old) {
    plan.old.push_back(set.replicas);
    total += set.replicas;
    available += set.available;
  }
  if (surge_max == 0 && unavailable_max == 0) unavailable_max = 1;
  if (fresh.replicas > desired) {
    plan.fresh = desired;
    total -= fresh.replicas - desired;
    available = std::min(available, total);
  } else {
    long long room = std::max(0LL, desired + surge_max - total);
    plan.fresh = std::min(desired, fresh.replicas + room);
  }
  // Pods that never became available go first: losing them costs nothing.
  long long minimum = desired - unavailable_max;
  long long fresh_unavailable = std::max(0LL, fresh.replicas - fresh.available);
  long long budget = total - minimum - fresh_unavailable;
  for (std::size_t i = 0; i < old.size() && budget > 0; ++i) {
    long long sick = std::clamp(old[i].replicas - old[i].available, 0LL, budget);
    plan.old[i] -= sick;
    budget -= sick;
  }
  long long spare = std::min(budget, available - minimum);
  for (std::size_t i = 0; i < old.size() && spare > 0; ++i) {
    long long cut = std::min(plan.old[i], spare);
    plan.old[i] -= cut;
    spare -= cut;
  }
  return plan;
}

std::string templateHash(const std::string& text) {
  static constexpr char kAlphabet[] = "bcdfghjklmnpqrstvwxz2456789";
  std::uint64_t hash = 14695981039346656037ULL;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  std::string out;
  for (int i = 0; i < 10; ++i) {
    out += kAlphabet[hash % 27];
    hash /= 27;
  }
  return out;
}

}  // namespace postern::controllers
