// An ExecBackend for tests: "pods" are processes of this machine. Pod "default/p" has the
// containers "c" and "d"; exec starts what it is told, attach starts `attach_command`; a port is
// one of this machine's loopback. No namespaces: what is tested is the streaming in front.
#pragma once

#include "event/loop.h"
#include "streaming/backend.h"

#include <string>
#include <vector>

namespace postern::streaming {

class ProcessBackend final : public ExecBackend {
 public:
  explicit ProcessBackend(event::Loop& loop) : loop_(loop) {}

  std::vector<std::string> attach_command{"cat"};
  int running = 0;    // processes that were started and not ended
  int abandoned = 0;  // of them, those whose session went away first

  std::optional<Refusal> check(Purpose purpose, const PodRef& pod,
                               const std::string& container) override;
  std::unique_ptr<StreamProcess> exec(const ExecRequest& request, StreamSession& session) override;
  std::unique_ptr<StreamProcess> attach(const ExecRequest& request,
                                        StreamSession& session) override;
  void dial(const PodRef& pod, std::uint16_t port, DialCallback callback) override;

 private:
  event::Loop& loop_;
};

}  // namespace postern::streaming
