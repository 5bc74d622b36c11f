#include "http/h1_output.h"

#include "net/socket.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace postern::http {
namespace {

/// A transport and the other end of its socket.
struct Ends {
  explicit Ends(event::Loop& loop) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    transport = net::makeSocketTransport(loop, base::Fd(ends[0]));
    peer = base::Fd(ends[1]);
  }
  void put(std::string_view bytes) const {
    ASSERT_EQ(::write(peer.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  std::string get() const {
    std::string out;
    char room[65536];
    ssize_t got = 0;
    while ((got = ::read(peer.get(), room, sizeof room)) > 0)
      out.append(room, static_cast<std::size_t>(got));
    return out;
  }
  std::unique_ptr<net::Transport> transport;
  base::Fd peer;
};

class H1Piped : public ::testing::Test {
 protected:
  net::PipedBytes piece(std::string_view bytes) {
    from_.put(bytes);
    net::PipedBytes out;
    EXPECT_TRUE(out.begin(pipes_));
    EXPECT_EQ(out.read(from_.transport->fd(), bytes.size()).bytes, bytes.size());
    return out;
  }
  event::Loop loop_;
  net::PipePool pipes_;
  Ends from_{loop_};
  Ends to_{loop_};
};

TEST_F(H1Piped, OutputKeepsTheOrderOfBytesAndPieces) {
  H1Output out;
  net::PipedBytes first = piece("first piece, ");
  net::PipedBytes second = piece("second piece, ");
  out.bytes().append("head, ");
  EXPECT_FALSE(out.holdsPipe());
  out.append(first);
  out.bytes().append("between, ");
  out.append(second);  // copied: a piece is under way
  out.bytes().append("end");
  EXPECT_TRUE(out.holdsPipe());
  EXPECT_EQ(pipes_.idle(), 1U);
  EXPECT_EQ(out.size(), 45U);
  EXPECT_EQ(out.write(*to_.transport).status, net::IoStatus::kOk);
  EXPECT_EQ(to_.get(), "head, first piece, between, second piece, end");
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(pipes_.idle(), 2U);
}

TEST_F(H1Piped, OutputWaitsForRoomInsideAPiece) {
  H1Output out;
  const std::string large(300000, 'x');
  out.bytes().append(large);
  net::PipedBytes some = piece("some");
  out.append(some);
  EXPECT_EQ(out.write(*to_.transport).status, net::IoStatus::kAgain);
  EXPECT_TRUE(out.holdsPipe());
  std::string got;
  for (int i = 0; i < 100 && !out.empty(); ++i) {
    got += to_.get();
    out.write(*to_.transport);
  }
  got += to_.get();
  EXPECT_TRUE(got == large + "some");
}

TEST_F(H1Piped, OutputThatIsDroppedClosesItsPipe) {
  H1Output out;
  net::PipedBytes some = piece("some");
  out.append(some);
  out.clear();
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(pipes_.idle(), 0U);  // with bytes in it, it is of no use to others
}

TEST_F(H1Piped, InputTakesLargeBodiesAndTheirRest) {
  H1PipedInput input;
  EXPECT_FALSE(input.concerns(1 << 20, 0));
  input.accept(pipes_);
  EXPECT_FALSE(input.concerns(kPipedFromBytes, 1));
  EXPECT_TRUE(input.concerns(kPipedFromBytes, 0));
  const std::string large(40000, 'x');
  from_.put(large);
  net::PipedBytes out;
  EXPECT_EQ(input.take(*from_.transport, 40010, out), H1PipedInput::Next::kPiece);
  base::Buffer copy;
  out.copyTo(copy);
  EXPECT_TRUE(copy.toString() == large);
  EXPECT_TRUE(input.concerns(10, 0));  // the end of what was begun
  EXPECT_EQ(input.take(*from_.transport, 10, out), H1PipedInput::Next::kAgain);
  from_.put("0123456789 and more");
  EXPECT_EQ(input.take(*from_.transport, 10, out), H1PipedInput::Next::kPiece);
  EXPECT_EQ(out.size(), 10U);
  EXPECT_FALSE(input.concerns(10, 0));
}

TEST_F(H1Piped, InputIsCopiedWhenItComesInDribs) {
  H1PipedInput input;
  input.accept(pipes_);
  int pieces = 0;
  auto next = H1PipedInput::Next::kPiece;
  for (; pieces < 100; ++pieces) {
    from_.put("little");
    net::PipedBytes out;
    next = input.take(*from_.transport, 1 << 20, out);
    if (next != H1PipedInput::Next::kPiece) break;
  }
  EXPECT_EQ(next, H1PipedInput::Next::kCopied);
  EXPECT_EQ(pieces, 16);
  EXPECT_FALSE(input.concerns(1 << 20, 0));
}

TEST_F(H1Piped, InputLeavesRoomForOthers) {
  H1PipedInput input;
  input.accept(pipes_);
  const std::string large(60000, 'x');
  auto next = H1PipedInput::Next::kPiece;
  std::size_t taken = 0;
  for (int i = 0; i < 100 && next == H1PipedInput::Next::kPiece; ++i) {
    from_.put(large);
    net::PipedBytes out;
    next = input.take(*from_.transport, 100 << 20, out);
    taken += out.size();
  }
  EXPECT_EQ(next, H1PipedInput::Next::kLater);
  EXPECT_LE(taken, 600000U);
  input.beginEvent();
  net::PipedBytes out;
  EXPECT_EQ(input.take(*from_.transport, 100 << 20, out), H1PipedInput::Next::kPiece);
}

TEST_F(H1Piped, PipesLeaveDescriptorsToSockets) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const base::Fd next(::dup(to_.peer.get()));
  const rlimit few{static_cast<rlim_t>(next.get()) + 100, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<net::PipedBytes> pieces(100);
  std::size_t taken = 0;
  while (taken < pieces.size() && pieces[taken].begin(pipes_)) ++taken;
  std::vector<base::Fd> sockets(5);
  for (base::Fd& each : sockets) {
    each = base::Fd(::socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_TRUE(each);
  }
  EXPECT_GT(taken, 30U);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST_F(H1Piped, InputTellsTheEnd) {
  H1PipedInput input;
  input.accept(pipes_);
  from_.peer.reset();
  net::PipedBytes out;
  EXPECT_EQ(input.take(*from_.transport, 1 << 20, out), H1PipedInput::Next::kEof);
}

}  // namespace
}  // namespace postern::http
