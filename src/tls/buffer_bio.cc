#include "tls/buffer_bio.h"

#include <algorithm>
#include <cstring>

namespace postern::tls {
namespace {

int readEx(BIO* bio, char* out, std::size_t size, std::size_t* got) {
  auto& in = static_cast<BioBuffers*>(BIO_get_data(bio))->in;
  BIO_clear_retry_flags(bio);
  *got = 0;
  if (in.empty()) {
    BIO_set_retry_read(bio);
    return 0;
  }
  while (*got < size && !in.empty()) {
    const std::string_view piece = in.front();
    const std::size_t count = std::min(piece.size(), size - *got);
    std::memcpy(out + *got, piece.data(), count);
    in.drain(count);
    *got += count;
  }
  return 1;
}

int writeEx(BIO* bio, const char* bytes, std::size_t size, std::size_t* written) {
  BIO_clear_retry_flags(bio);
  static_cast<BioBuffers*>(BIO_get_data(bio))->out.append(std::string_view(bytes, size));
  *written = size;
  return 1;
}

long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* method() {
  static BIO_METHOD* const kMethod = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "buffer");
    BIO_meth_set_read_ex(made, readEx);
    BIO_meth_set_write_ex(made, writeEx);
    BIO_meth_set_ctrl(made, control);
    return made;
  }();
  return kMethod;
}

}  // namespace

BIO* makeBufferBio(BioBuffers& buffers) {
  BIO* out = BIO_new(method());
  BIO_set_data(out, &buffers);
  BIO_set_init(out, 1);
  return out;
}

}  // namespace postern::tls
