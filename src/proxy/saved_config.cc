#include "proxy/saved_config.h"

#include "api/message.h"
#include "base/fd.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/service/discovery/v3/discovery.pb.h"
#include "proxy/logs.h"
#include "tls/x509.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::proxy {

namespace {

using envoy::config::core::v3::DataSource;
using envoy::service::discovery::v3::DeltaDiscoveryResponse;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr std::string_view kMagic = "postern-saved-config 1 ";
constexpr std::size_t kSavedBytesMax = 512 * 1024 * 1024;
constexpr std::chrono::milliseconds kWriteAfter{500};
constexpr int kDepthMax = 64;
constexpr auto kKeyFields = std::to_array<std::string_view>(
    {"private_key", "private_key_provider", "pkcs12", "password", "keys", "secret", "secrets"});

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char each : bytes)
    fmt::format_to(std::back_inserter(out), "{:02x}", static_cast<unsigned char>(each));
  return out;
}

bool isInline(const Message& message) {
  const auto* source = google::protobuf::DynamicCastToGenerated<const DataSource>(&message);
  return source == nullptr || source->specifier_case() == DataSource::kInlineBytes ||
         source->specifier_case() == DataSource::kInlineString;
}

bool holdsKey(const Message& message, int depth) {
  if (depth > kDepthMax) return true;
  if (const auto* any =
          google::protobuf::DynamicCastToGenerated<const google::protobuf::Any>(&message)) {
    if (any->type_url().empty()) return false;
    const auto held = api::unpack(*any);
    return !held || holdsKey(**held, depth + 1);  // what cannot be seen is not kept
  }
  const bool tls =
      message.GetDescriptor()->file()->package() == "envoy.extensions.transport_sockets.tls.v3";
  const auto* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> set;
  reflection->ListFields(message, &set);
  for (const FieldDescriptor* field : set) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    const bool key =
        tls && std::find(kKeyFields.begin(), kKeyFields.end(), field->name()) != kKeyFields.end();
    const int count = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const Message& inner = field->is_repeated()
                                 ? reflection->GetRepeatedMessage(message, field, i)
                                 : reflection->GetMessage(message, field);
      if ((key && isInline(inner)) || holdsKey(inner, depth + 1)) return true;
    }
  }
  return false;
}

void appendLength(std::string& out, std::size_t length) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>((length >> shift) & 0xff);
}

std::size_t readLength(std::string_view bytes) {
  std::size_t out = 0;
  for (int i = 0; i < 4; ++i)
    out = out << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  return out;
}

base::Result<std::string> readOwnFile(const std::string& path) {
  const base::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return base::failErrno("open");
  struct stat about{};
  if (::fstat(file.get(), &about) != 0) return base::failErrno("stat");
  if (!S_ISREG(about.st_mode) || about.st_uid != ::geteuid() || (about.st_mode & 022) != 0)
    return base::fail(base::Errc::kPermissionDenied, "others may have written it");
  if (static_cast<std::size_t>(about.st_size) > kSavedBytesMax)
    return base::fail(base::Errc::kLimitExceeded, "too large");
  std::string out(static_cast<std::size_t>(about.st_size), '\0');
  std::size_t have = 0;
  while (have < out.size()) {
    const ssize_t got = ::read(file.get(), out.data() + have, out.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::failErrno("read");
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  out.resize(have);
  return out;
}

}  // namespace

bool holdsPrivateKey(const Message& message) { return holdsKey(message, 0); }

std::string encodeSaved(const std::string& node_id,
                        const std::vector<DynamicResources>& resources) {
  std::string payload = node_id + "\n";
  for (const DynamicResources& type : resources) {
    DeltaDiscoveryResponse response;
    response.set_type_url(type.type_url);
    for (const auto& [name, text] : type.resources) {
      if (holdsPrivateKey(text.message)) {
        kConfigLog.debug("{} is not saved: it holds a private key", name);
        continue;
      }
      auto& resource = *response.add_resources();
      resource.set_name(name);
      resource.set_version(text.version);
      *resource.mutable_resource() = text.message;
    }
    const std::string bytes = api::serialize(response);
    appendLength(payload, bytes.size());
    payload += bytes;
  }
  return std::string(kMagic) + hex(tls::sha256(payload)) + "\n" + payload;
}

base::ConfigResult<std::vector<DynamicResources>> decodeSaved(const std::string& bytes,
                                                              const std::string& node_id) {
  std::string_view rest = bytes;
  const auto bad = [](const char* why) { return base::failConfig("", why); };
  const std::size_t line = rest.find('\n');
  if (!rest.starts_with(kMagic) || line == std::string_view::npos)
    return bad("is not a saved configuration of this version");
  const std::string_view sum = rest.substr(kMagic.size(), line - kMagic.size());
  rest.remove_prefix(line + 1);
  if (sum != hex(tls::sha256(rest))) return bad("is damaged: its checksum differs");
  const std::size_t id = rest.find('\n');
  if (id == std::string_view::npos) return bad("is malformed");
  if (rest.substr(0, id) != node_id) return bad("is that of another node");
  rest.remove_prefix(id + 1);
  std::vector<DynamicResources> out;
  while (!rest.empty()) {
    if (rest.size() < 4 || rest.size() - 4 < readLength(rest)) return bad("is malformed");
    DeltaDiscoveryResponse response;
    if (!api::parseBytes(rest.substr(4, readLength(rest)), response)) return bad("is malformed");
    rest.remove_prefix(4 + readLength(rest));
    DynamicResources& type = out.emplace_back();
    type.type_url = response.type_url();
    for (auto& resource : *response.mutable_resources()) {
      ResourceText text;
      text.version = resource.version();
      text.message = std::move(*resource.mutable_resource());
      type.resources.emplace_back(resource.name(), std::move(text));
    }
  }
  return out;
}

// ---- SavedConfig ----

SavedConfig::SavedConfig(event::Loop& loop, std::string folder, std::string node_id)
    : path_(std::move(folder) + "/dynamic_resources"),
      node_id_(std::move(node_id)),
      timer_(loop, [this] { write(); }) {}

base::ConfigResult<std::unique_ptr<SavedConfig>> SavedConfig::open(event::Loop& loop,
                                                                   const std::string& folder,
                                                                   std::string node_id) {
  const std::string at = "--saved-config-path";
  if (node_id.find('\n') != std::string::npos)
    return base::failConfig(at, "needs a node.id of one line");
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return base::failConfig(at, folder + " cannot be made: " + std::strerror(errno));
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    return base::failConfig(at, folder + " cannot be written to: " + std::strerror(errno));
  return std::unique_ptr<SavedConfig>(new SavedConfig(loop, folder, std::move(node_id)));
}

std::vector<DynamicResources> SavedConfig::load() const {
  const auto bytes = readOwnFile(path_);
  if (!bytes) {
    if (bytes.error().sys != ENOENT)
      kConfigLog.warning("{} is not used: {}", path_, bytes.error().message());
    return {};
  }
  auto read = decodeSaved(*bytes, node_id_);
  if (!read) {
    kConfigLog.warning("{} {}: starting without it", path_, read.error().message());
    return {};
  }
  return std::move(*read);
}

void SavedConfig::changed(const ConfigStore& store) {
  store_ = &store;
  if (!timer_.armed()) timer_.arm(kWriteAfter);
}

void SavedConfig::write() {
  const std::string bytes = encodeSaved(node_id_, store_->dynamicResources());
  std::string sum = tls::sha256(bytes);
  if (sum == written_) return;
  if (auto done = replace(bytes); !done) {
    kConfigLog.error("{} cannot be written: {}", path_, done.error().message());
    return;
  }
  written_ = std::move(sum);
}

/// Written beside its place, to the disk, and moved there: a reader finds the old or the new one.
base::Result<void> SavedConfig::replace(const std::string& bytes) const {
  const std::string temporary = path_ + ".new";
  (void)::unlink(temporary.c_str());
  const base::Fd file(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return base::failErrno("open");
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::write(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return base::failErrno("write");
    done += static_cast<std::size_t>(got);
  }
  if (::fdatasync(file.get()) != 0) return base::failErrno("fdatasync");
  if (::rename(temporary.c_str(), path_.c_str()) != 0) return base::failErrno("rename");
  return {};
}

}  // namespace postern::proxy
