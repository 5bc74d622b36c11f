#include "net/splice_way.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace postern::net {
namespace {

constexpr int kRoundsPerCall = 16;

ssize_t spliceSome(int from, int to, std::size_t bytes) {
  ssize_t moved = 0;
  do {
    moved = ::splice(from, nullptr, to, nullptr, bytes, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (moved < 0 && errno == EINTR);
  return moved;
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
  return true;
}

void PipePool::give(Pipe pipe, bool empty) {
  if (empty && pipes_.size() < kIdlePipesMax) pipes_.push_back(std::move(pipe));
}

SpliceWay::Result SpliceWay::move(int from, int to, PipePool& pipes, std::size_t piece_bytes) {
  Result result{Moved::kMore, 0};
  for (int round = 0; round < kRoundsPerCall; ++round) {
    if (held_ == 0 && !ended_ && !fill(from, pipes, piece_bytes, result)) return result;
    if (!empty(to, result)) return result;
    if (!ended_) continue;
    release(pipes);
    result.moved = Moved::kEnded;
    return result;
  }
  return result;
}

bool SpliceWay::fill(int from, PipePool& pipes, std::size_t piece_bytes, Result& result) {
  if (!pipe_.read && !pipes.take(pipe_)) {
    result.moved = Moved::kNoPipe;
    return false;
  }
  const ssize_t got = spliceSome(from, pipe_.write.get(), piece_bytes);
  if (got > 0) {
    held_ = static_cast<std::size_t>(got);
    result.bytes += held_;
    return true;
  }
  if (got == 0) {
    ended_ = true;
    return true;
  }
  const int error = errno;
  release(pipes);
  result.moved = error == EAGAIN ? Moved::kReadWaits : Moved::kFailed;
  return false;
}

bool SpliceWay::empty(int to, Result& result) {
  while (held_ > 0) {
    const ssize_t put = spliceSome(pipe_.read.get(), to, held_);
    if (put <= 0) {
      result.moved = put < 0 && errno == EAGAIN ? Moved::kWriteWaits : Moved::kFailed;
      return false;
    }
    held_ -= static_cast<std::size_t>(put);
  }
  return true;
}

void SpliceWay::release(PipePool& pipes) {
  if (pipe_.read) pipes.give(std::move(pipe_), held_ == 0);
  pipe_ = {};
  held_ = 0;
}

}  // namespace postern::net
