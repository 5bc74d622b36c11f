// The HTTP/2 server of a test: driven frame by frame by a script, in memory.
#pragma once

#include "http/h2_server.h"
#include "testing/h2_script.h"

#include <map>
#include <memory>
#include <vector>

namespace postern::testing {

struct ServerSide : Script, http::ServerObserver {
  std::vector<std::unique_ptr<Seen>> seen;
  http::ServerConnection* connection = nullptr;
  bool closed = false;
  bool timed_out = false;  // waiting for the client's end

  explicit ServerSide(http::ServerLimits limits = {}, bool begin = true,
                      const base::Clock& clock = base::systemClock())
      : Script(clock) {
    connection =
        http::startH2Server(loop, std::make_unique<MemoryTransport>(wire), {}, limits, *this);
    if (!begin) return;
    out.append(codec::kH2Preface);
    codec::writeH2Settings(out, {});
    send();
  }
  ~ServerSide() override {
    if (!closed) connection->close();
    loop.runOnce();
  }
  http::StreamObserver* onStream(http::ServerConnection&, http::Stream& stream) override {
    seen.push_back(std::make_unique<Seen>());
    seen.back()->stream = &stream;
    return seen.back().get();
  }
  void onEvent(http::ServerConnection&, Event event) override {
    timed_out = timed_out || event == Event::kDelayedCloseTimeout;
  }
  void onClosed(http::ServerConnection&) override { closed = true; }
  bool onHeldHeaders(std::ptrdiff_t change) override {
    held += change;
    return held <= held_max;
  }
  void onH2Event(http::H2Event event) override { ++events[event]; }
  std::ptrdiff_t held = 0;
  std::ptrdiff_t held_max = PTRDIFF_MAX;
  std::map<http::H2Event, int> events;
};

}  // namespace postern::testing
