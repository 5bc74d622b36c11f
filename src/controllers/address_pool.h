// Load balancer addresses: which are whose. The lowest free ones are given; holders are told again
// after a restart from the Services' status. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace postern::controllers {

class AddressPool {
 public:
  /// IPv4 CIDR; an unreadable one gives an empty pool.
  explicit AddressPool(const std::string& cidr);
  /// Keeps what of `current` lies in the pool and is not another's, and adds free ones up to
  /// `count`. Fewer come back when the pool is exhausted.
  std::vector<std::string> assign(const std::string& owner, const std::vector<std::string>& current,
                                  int count);
  void release(const std::string& owner);

 private:
  std::uint32_t first_ = 0;
  std::uint32_t last_ = 0;  // inclusive; below first_ when empty
  std::map<std::uint32_t, std::string> owners_;
};

}  // namespace postern::controllers
