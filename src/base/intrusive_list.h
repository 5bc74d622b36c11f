// A doubly linked list whose links lie inside the elements: O(1) unlink without search or
// allocation. The list does not own its elements; an element unlinks itself when destroyed. One
// thread.
#pragma once

#include "base/check.h"

#include <cstddef>

namespace postern::base {

/// Base of an element. `Tag` lets one object be in several lists.
template <class Tag = void>
class ListHook {
 public:
  ListHook() = default;
  ListHook(const ListHook&) = delete;
  ListHook& operator=(const ListHook&) = delete;
  ~ListHook() { unlink(); }

  bool linked() const { return next_ != nullptr; }
  void unlink() {
    if (next_ == nullptr) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    next_ = prev_ = nullptr;
  }

 private:
  template <class T, class U>
  friend class IntrusiveList;
  ListHook* next_ = nullptr;
  ListHook* prev_ = nullptr;
};

template <class T, class Tag = void>
class IntrusiveList {
 public:
  using Hook = ListHook<Tag>;

  IntrusiveList() { head_.next_ = head_.prev_ = &head_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;
  ~IntrusiveList() {
    while (!empty()) head_.next_->unlink();
    head_.next_ = head_.prev_ = nullptr;
  }

  bool empty() const { return head_.next_ == &head_; }
  void pushBack(T& element) { insertBefore(&head_, &element); }
  void pushFront(T& element) { insertBefore(head_.next_, &element); }
  T* front() { return empty() ? nullptr : static_cast<T*>(head_.next_); }
  T* back() { return empty() ? nullptr : static_cast<T*>(head_.prev_); }
  T* popFront() {
    T* element = front();
    if (element != nullptr) static_cast<Hook*>(element)->unlink();
    return element;
  }

  class Iterator {
   public:
    explicit Iterator(Hook* at) : at_(at) {}
    T& operator*() const { return *static_cast<T*>(at_); }
    T* operator->() const { return static_cast<T*>(at_); }
    Iterator& operator++() {
      at_ = IntrusiveList::next(at_);
      return *this;
    }
    bool operator==(const Iterator&) const = default;

   private:
    Hook* at_;
  };
  Iterator begin() { return Iterator(head_.next_); }
  Iterator end() { return Iterator(&head_); }

 private:
  static Hook* next(Hook* hook) { return hook->next_; }
  static void insertBefore(Hook* at, Hook* element) {
    POSTERN_ASSERT(!element->linked());
    element->next_ = at;
    element->prev_ = at->prev_;
    at->prev_->next_ = element;
    at->prev_ = element;
  }

  Hook head_;
};

}  // namespace postern::base
