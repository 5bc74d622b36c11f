#include "net/splice_way.h"

#include "base/check.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace postern::net {
namespace {

constexpr int kRoundsPerCall = 16;
constexpr int kPipeBytes = 256 * 1024;  // in slots of a page each; what is in a slot varies
constexpr std::size_t kBytesPerCall = 2 * PipedBytes::kPieceBytes;

ssize_t spliceSome(int from, int to, std::size_t bytes) {
  ssize_t moved = 0;
  do {
    moved = ::splice(from, nullptr, to, nullptr, bytes, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (moved < 0 && errno == EINTR);
  return moved;
}

/// Without pipes bodies are copied; without sockets nothing goes at all: the last part of the
/// descriptors is theirs.
bool leavesSockets(int fd) {
  constexpr rlim_t kPartForSockets = 16;
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
         static_cast<rlim_t>(fd) < limit.rlim_cur - limit.rlim_cur / kPartForSockets;
}

}  // namespace

bool PipePool::take(Pipe& out) {
  if (!pipes_.empty()) {
    out = std::move(pipes_.back());
    pipes_.pop_back();
    return true;
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  out.read = base::Fd(ends[0]);
  out.write = base::Fd(ends[1]);
  if (!leavesSockets(std::max(ends[0], ends[1]))) {
    out = {};
    return false;
  }
  // The usual size holds sixteen pages: a call each way for 60 KB. The kernel may refuse more to a
  // user with many pipes; then it stays.
  (void)::fcntl(ends[1], F_SETPIPE_SZ, kPipeBytes);
  return true;
}

void PipePool::give(Pipe pipe, bool empty) {
  if (empty && pipes_.size() < kIdlePipesMax) pipes_.push_back(std::move(pipe));
}

PipedBytes& PipedBytes::operator=(PipedBytes&& other) noexcept {
  if (this == &other) return *this;
  release();
  pool_ = std::exchange(other.pool_, nullptr);
  pipe_ = std::move(other.pipe_);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

bool PipedBytes::begin(PipePool& pipes) {
  if (pool_ != nullptr) return true;
  if (!pipes.take(pipe_)) return false;
  pool_ = &pipes;
  return true;
}

IoResult PipedBytes::read(int from, std::size_t max) {
  const ssize_t got = spliceSome(from, pipe_.write.get(), max);
  if (got == 0) return {IoStatus::kEof, 0};
  if (got < 0) return {errno == EAGAIN ? IoStatus::kAgain : IoStatus::kError, 0};
  size_ += static_cast<std::size_t>(got);
  return {IoStatus::kOk, static_cast<std::size_t>(got)};
}

IoResult PipedBytes::write(int to) {
  std::size_t total = 0;
  while (size_ > 0) {
    const ssize_t put = spliceSome(pipe_.read.get(), to, size_);
    if (put <= 0) return {put < 0 && errno == EAGAIN ? IoStatus::kAgain : IoStatus::kError, total};
    size_ -= static_cast<std::size_t>(put);
    total += static_cast<std::size_t>(put);
  }
  release();
  return {IoStatus::kOk, total};
}

void PipedBytes::copyTo(base::Buffer& out) {
  while (size_ > 0) {
    char* room = nullptr;
    const std::size_t space = std::min(out.reserve(room), size_);
    const ssize_t got = ::read(pipe_.read.get(), room, space);
    out.commit(got > 0 ? static_cast<std::size_t>(got) : 0);
    if (got < 0 && errno == EINTR) continue;
    POSTERN_CHECK(got > 0);  // what was put in is there
    size_ -= static_cast<std::size_t>(got);
  }
  release();
}

void PipedBytes::release() {
  if (pool_ != nullptr) std::exchange(pool_, nullptr)->give(std::move(pipe_), size_ == 0);
  pipe_ = {};
  size_ = 0;
}

SpliceWay::Result SpliceWay::move(int from, int to, PipePool& pipes, std::size_t piece_bytes) {
  Result result{Moved::kMore, 0};
  for (int round = 0; round < kRoundsPerCall && result.bytes < kBytesPerCall; ++round) {
    if (piece_.empty() && !ended_ && !fill(from, pipes, piece_bytes, result)) return result;
    if (!piece_.empty()) {
      const IoResult put = piece_.write(to);
      result.written += put.bytes;
      if (put.status != IoStatus::kOk) {
        result.moved = put.status == IoStatus::kAgain ? Moved::kWriteWaits : Moved::kFailed;
        return result;
      }
    }
    if (!ended_) continue;
    release();
    result.moved = Moved::kEnded;
    return result;
  }
  return result;
}

bool SpliceWay::fill(int from, PipePool& pipes, std::size_t piece_bytes, Result& result) {
  if (!piece_.begin(pipes)) {
    result.moved = Moved::kNoPipe;
    return false;
  }
  const IoResult got = piece_.read(from, piece_bytes);
  result.bytes += got.bytes;
  if (got.status == IoStatus::kOk) return true;
  if (got.status == IoStatus::kEof) {
    ended_ = true;
    return true;
  }
  release();
  result.moved = got.status == IoStatus::kAgain ? Moved::kReadWaits : Moved::kFailed;
  return false;
}

}  // namespace postern::net
