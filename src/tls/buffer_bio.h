// OpenSSL's I/O over two buffers of ours: what the socket gave and what it shall get. No copy and
// no memory of its own: an idle connection holds nothing here. Only for .cc files of this folder.
#pragma once

#include "base/buffer.h"
#include "tls/openssl_handles.h"

namespace postern::tls {

struct BioBuffers {
  base::Buffer in;   // ciphertext read, not yet decrypted
  base::Buffer out;  // ciphertext not yet written
};

/// A BIO that reads from `in` (empty: try again) and appends to `out`; both outlive it.
BIO* makeBufferBio(BioBuffers& buffers);

}  // namespace postern::tls
