// The arithmetic of a rolling update, apart from any I/O: what each ReplicaSet's size becomes in
// one step. Pure.
#pragma once

#include <string>
#include <vector>

namespace postern::controllers {

struct RolloutSet {
  long long replicas = 0;   // spec
  long long available = 0;  // status
};

struct RolloutPlan {
  long long fresh = 0;         // new size of the newest set
  std::vector<long long> old;  // new sizes, in the order given
};

/// `old` is ordered oldest first. Surge and unavailable are resolved numbers.
RolloutPlan planRollout(long long desired, long long surge_max, long long unavailable_max,
                        RolloutSet fresh, const std::vector<RolloutSet>& old);
/// A short name for a pod template's text, in the alphabet Kubernetes uses for names.
std::string templateHash(const std::string& text);

}  // namespace postern::controllers
