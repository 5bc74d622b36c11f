// A move-only callable with inline storage for small captures: what std::function lacks in the
// standard library of g++ 12 (std::move_only_function) without its allocation for captures of up to
// 48 bytes.
#pragma once

#include "base/check.h"

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace postern::base {

/// `Inline`: bytes of captures that need no allocation.
template <class Signature, std::size_t Inline = 48>
class Function;

template <class R, class... Args, std::size_t Inline>
class Function<R(Args...), Inline> {
 public:
  Function() = default;
  Function(std::nullptr_t) {}  // NOLINT(google-explicit-constructor): reads like a pointer

  template <class F>
    requires(!std::is_same_v<std::decay_t<F>, Function> &&
             std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
  Function(F&& f) {  // NOLINT(google-explicit-constructor): a lambda converts
    using D = std::decay_t<F>;
    if constexpr (sizeof(D) <= Inline && alignof(D) <= kAlign &&
                  std::is_nothrow_move_constructible_v<D>) {
      ::new (static_cast<void*>(storage_)) D(std::forward<F>(f));
      table_ = &kInlineTable<D>;
    } else {
      ::new (static_cast<void*>(storage_)) D*(new D(std::forward<F>(f)));
      table_ = &kHeapTable<D>;
    }
  }

  Function(Function&& other) noexcept { take(other); }
  Function& operator=(Function&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  Function(const Function&) = delete;
  Function& operator=(const Function&) = delete;
  ~Function() { reset(); }

  explicit operator bool() const { return table_ != nullptr; }

  /// Where the captures are, or what the only captured pointer points to. For a guess
  /// (base::prefetch), not for use.
  const void* captured() const
    requires(Inline == sizeof(void*))
  {
    const void* out = nullptr;
    std::memcpy(&out, storage_, sizeof out);
    return out;
  }

  R operator()(Args... args) const {
    POSTERN_ASSERT(table_ != nullptr);
    return table_->call(const_cast<std::byte*>(storage_), std::forward<Args>(args)...);
  }

 private:
  static_assert(Inline >= sizeof(void*));
  static constexpr std::size_t kAlign =
      Inline % alignof(std::max_align_t) == 0 ? alignof(std::max_align_t) : alignof(void*);

  struct Table {
    R (*call)(void*, Args&&...);
    void (*move)(void* from, void* to);
    void (*destroy)(void*);
  };

  template <class D>
  static constexpr Table kInlineTable{[](void* p, Args&&... args) -> R {
                                        return (*static_cast<D*>(p))(std::forward<Args>(args)...);
                                      },
                                      [](void* from, void* to) {
                                        ::new (to) D(std::move(*static_cast<D*>(from)));
                                        static_cast<D*>(from)->~D();
                                      },
                                      [](void* p) { static_cast<D*>(p)->~D(); }};

  template <class D>
  static constexpr Table kHeapTable{
      [](void* p, Args&&... args) -> R {
        return (**static_cast<D**>(p))(std::forward<Args>(args)...);
      },
      [](void* from, void* to) { ::new (to) D*(*static_cast<D**>(from)); },
      [](void* p) { delete *static_cast<D**>(p); }};

  void take(Function& other) {
    table_ = other.table_;
    if (table_ != nullptr) table_->move(other.storage_, storage_);
    other.table_ = nullptr;
  }
  void reset() {
    if (table_ != nullptr) table_->destroy(storage_);
    table_ = nullptr;
  }

  const Table* table_ = nullptr;
  alignas(kAlign) std::byte storage_[Inline];
};

}  // namespace postern::base
