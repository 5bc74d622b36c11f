#include "http/h1_output.h"

#include <algorithm>
#include <utility>

namespace postern::http {

namespace {

constexpr std::size_t kSmallPieceBytes = 4096;
constexpr int kSmallPiecesMax = 16;

}  // namespace

H1PipedInput::Next H1PipedInput::take(net::Transport& from, std::uint64_t straight,
                                      net::PipedBytes& piece) {
  if (left_ == 0) return Next::kLater;
  if (small_pieces_ >= kSmallPiecesMax || !isPlainSocket(from) || !piece.begin(*pipes_)) {
    pipes_ = nullptr;
    return Next::kCopied;
  }
  const auto most = std::min<std::uint64_t>(straight, net::PipedBytes::kPieceBytes);
  const net::IoResult got = piece.read(from.fd(), static_cast<std::size_t>(most));
  switch (got.status) {
    case net::IoStatus::kOk:
      break;
    case net::IoStatus::kAgain:
      return Next::kAgain;
    case net::IoStatus::kEof:
      return Next::kEof;
    case net::IoStatus::kError:
      return Next::kError;
  }
  from.countRead(got.bytes);
  left_ -= std::min(left_, got.bytes);
  begun_ = got.bytes < straight;
  small_pieces_ = got.bytes < kSmallPieceBytes ? small_pieces_ + 1 : 0;
  return Next::kPiece;
}

void H1Output::append(net::PipedBytes& piece) {
  if (piped_ != nullptr) return piece.copyTo(piped_->behind);
  if (piece.empty()) return;
  piped_ = std::make_unique<Piped>();
  piped_->piece = std::move(piece);
}

net::IoResult H1Output::write(net::Transport& to) {
  net::IoResult result = to.write(bytes_);
  if (piped_ == nullptr || result.status != net::IoStatus::kOk) return result;
  const net::IoResult put = piped_->piece.write(to.fd());
  to.countWritten(put.bytes);
  result.status = put.status;
  result.bytes += put.bytes;
  if (put.status == net::IoStatus::kAgain) to.awaitWritable();
  if (put.status != net::IoStatus::kOk) return result;
  bytes_ = std::move(piped_->behind);
  piped_.reset();
  if (bytes_.empty()) return result;
  const net::IoResult rest = to.write(bytes_);
  return {rest.status, result.bytes + rest.bytes};
}

void H1Output::clear() {
  bytes_.clear();
  piped_.reset();
}

bool isPlainSocket(const net::Transport& transport) {
  return transport.fd() >= 0 && !transport.peer().tls;
}

}  // namespace postern::http
