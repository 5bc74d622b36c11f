// Stands before protobuf's header of the same name where ThreadSanitizer is on: there protobuf adds
// members to its map fields, which the installed library, built without, does not have.
#pragma GCC system_header
#include <memory>
#include <mutex>
#include <string>

#pragma push_macro("__SANITIZE_THREAD__")
#undef __SANITIZE_THREAD__
#include_next <google/protobuf/map_field.h>
#pragma pop_macro("__SANITIZE_THREAD__")
