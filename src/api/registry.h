// Messages by type URL in memory of the caller's. Internal to api/.
#pragma once

#include <string_view>

namespace google::protobuf {
class Arena;
class Message;
}  // namespace google::protobuf

namespace postern::api {

/// An empty message of a type URL, owned by the arena; null when the type is not compiled in. For
/// large messages that are needed for a moment.
google::protobuf::Message* makeMessage(std::string_view type_url, google::protobuf::Arena& arena);

}  // namespace postern::api
