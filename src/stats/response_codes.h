// Counts answers by status code and class: upstream_rq_200, upstream_rq_2xx, upstream_rq_completed.
// The codes that occur are resolved once. One thread.
#pragma once

#include "stats/stats.h"

#include <array>

namespace postern::stats {

class ResponseCodes {
 public:
  explicit ResponseCodes(Scope& scope)
      : scope_(scope), completed_(scope.counter("upstream_rq_completed")) {}
  void count(int code);

 private:
  struct Kept {
    int code = 0;
    Counter* exact = nullptr;
    Counter* by_class = nullptr;
  };
  Scope& scope_;
  Counter& completed_;
  std::array<Kept, 8> kept_{};
  std::size_t next_ = 0;
};

}  // namespace postern::stats
