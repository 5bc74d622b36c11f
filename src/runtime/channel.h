// Messages between the node agent and a sandbox's pid 1: JSON with a length in front, descriptors
// beside them (SCM_RIGHTS), over a Unix stream socket. One loop. A peer that breaks the framing or
// sends more than kMessageBytesMax is closed.
#pragma once

#include "base/fd.h"
#include "base/function.h"
#include "event/loop.h"
#include "json/json.h"

#include <cstddef>
#include <deque>
#include <string>
#include <vector>

namespace postern::runtime {

inline constexpr std::size_t kMessageBytesMax = 4 * 1024 * 1024;
inline constexpr std::size_t kMessageFdsMax = 8;

class Channel {
 public:
  using OnMessage = base::Function<void(const json::Json& body, std::vector<base::Fd> fds)>;
  /// `on_closed` is called once, when the peer is gone; the channel may be destroyed in it, as in
  /// `on_message`.
  Channel(event::Loop& loop, base::Fd socket, OnMessage on_message,
          base::Function<void()> on_closed);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Queues a message; the descriptors are its own from here on.
  void send(const json::Json& body, std::vector<base::Fd> fds = {});

 private:
  struct Outgoing {
    std::string bytes;
    std::size_t sent = 0;
    std::vector<base::Fd> fds;
  };
  void onReady();
  bool receive();  // false: the peer is gone
  bool deliver();
  void flush();
  void close();

  base::Fd socket_;
  OnMessage on_message_;
  base::Function<void()> on_closed_;
  std::string input_;
  std::deque<base::Fd> input_fds_;
  std::deque<Outgoing> output_;
  bool* destroyed_ = nullptr;  // set while callbacks run
  event::FdWatch watch_;
};

}  // namespace postern::runtime
