// Session tickets (RFC 5077 4, RFC 8446 4.6.1): AES-256-CBC with an HMAC-SHA-256 over it.
#include "tls/ticket_keys.h"

#include "tls/x509.h"

#include <openssl/core_names.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>

namespace postern::tls {
namespace {

constexpr std::size_t kNameBytes = 16;
constexpr std::size_t kMacBytes = 32;
constexpr std::size_t kAesBytes = 32;
constexpr std::size_t kKept = 3;  // rotating: the one that encrypts and two before

using CipherPtr = std::unique_ptr<EVP_CIPHER, Freer<EVP_CIPHER_free>>;

struct Key {
  unsigned char name[kNameBytes];
  unsigned char mac[kMacBytes];
  unsigned char aes[kAesBytes];
};
static_assert(sizeof(Key) == TicketKeys::kKeyBytes);

Key keyOf(std::string_view bytes) {
  Key out{};
  std::memcpy(&out, bytes.data(), sizeof out);
  return out;
}

class Keys final : public TicketKeys {
 public:
  explicit Keys(const base::Clock* clock) : clock_(clock) {}
  ~Keys() override {
    for (Key& key : keys_) OPENSSL_cleanse(&key, sizeof key);
  }
  void add(Key key) { keys_.push_back(key); }

  Key newest() {
    const std::lock_guard lock(mutex_);
    prepare();
    return keys_.front();
  }
  enum class Found : unsigned char { kNot, kNewest, kOlder };
  Found find(const unsigned char* name, Key& out) {
    const std::lock_guard lock(mutex_);
    prepare();
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      if (std::memcmp(keys_[i].name, name, kNameBytes) != 0) continue;
      out = keys_[i];
      return i == 0 ? Found::kNewest : Found::kOlder;
    }
    return Found::kNot;
  }
  /// After newest() or find().
  const EVP_CIPHER* cipher() const { return cipher_.get(); }

 private:
  /// The first look at the library's ciphers costs milliseconds: not for a process without TLS.
  void prepare() {
    if (cipher_ == nullptr) cipher_.reset(EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr));
    rotate();
  }
  void rotate() {
    if (clock_ == nullptr) return;
    const base::MonotonicTime now = clock_->monotonic();
    if (!keys_.empty() && now - made_ < kRotation) return;
    // After a long silence the old ones are too old, too.
    if (!keys_.empty() && now - made_ >= kRotation * kKept) keys_.clear();
    made_ = now;
    keys_.push_front(keyOf(randomBytes(kKeyBytes)));
    if (keys_.size() > kKept) keys_.pop_back();
  }

  std::mutex mutex_;
  const base::Clock* clock_;
  std::deque<Key> keys_;
  base::MonotonicTime made_{};
  CipherPtr cipher_;
};

int keysIndex() {
  static const int kIndex = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return kIndex;
}

bool setMac(EVP_MAC_CTX* mac, Key& key) {
  char digest[] = "SHA256";
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.mac, sizeof key.mac),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_END};
  return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/// OpenSSL's contract: -1 error, 0 no such key, 1 fine, 2 fine and due for renewal.
int ticketKey(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
              EVP_MAC_CTX* mac, int encrypt) {
  auto* keys = static_cast<Keys*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), keysIndex()));
  if (keys == nullptr) return -1;
  Key key{};
  int result = 1;
  if (encrypt != 0) {
    key = keys->newest();
    std::memcpy(name, key.name, kNameBytes);
    const std::string random = randomBytes(EVP_MAX_IV_LENGTH);
    std::memcpy(iv, random.data(), EVP_MAX_IV_LENGTH);
  } else {
    const Keys::Found found = keys->find(name, key);
    if (found == Keys::Found::kNot) return 0;
    if (found == Keys::Found::kOlder) result = 2;
  }
  const bool ok = EVP_CipherInit_ex(cipher, keys->cipher(), nullptr, key.aes, iv, encrypt) == 1 &&
                  setMac(mac, key);
  OPENSSL_cleanse(&key, sizeof key);
  return ok ? result : -1;
}

}  // namespace

base::ConfigResult<std::shared_ptr<TicketKeys>> TicketKeys::fixed(
    const std::vector<std::string>& keys) {
  auto out = std::make_shared<Keys>(nullptr);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].size() != kKeyBytes) {
      return base::failConfig("keys[" + std::to_string(i) + "]",
                              "Incorrect TLS session ticket key length. Length " +
                                  std::to_string(keys[i].size()) + ", expected length " +
                                  std::to_string(kKeyBytes) + ".");
    }
    out->add(keyOf(keys[i]));
  }
  if (keys.empty()) return base::failConfig("keys", "must not be empty");
  return out;
}

std::shared_ptr<TicketKeys> TicketKeys::rotating(const base::Clock& clock) {
  return std::make_shared<Keys>(&clock);
}

void useTicketKeys(SSL_CTX* ctx, TicketKeys* keys) {
  SSL_CTX_set_ex_data(ctx, keysIndex(), keys);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticketKey);
}

}  // namespace postern::tls
