#include "cpp/napi/call_frame.h"

#include <array>
#include <atomic>
#include <cstring>
#include <mutex>

namespace longspan::napi {
namespace {

// Names by number. Tasks outlive the environment that gave them, so names are never freed.
std::array<std::atomic<const char*>, 1024> names;
size_t nameCount = 1;
std::mutex namesMutex;

}  // namespace

size_t nameId(const std::string& name) {
  std::lock_guard<std::mutex> lock(namesMutex);
  for (size_t id = 1; id < nameCount; ++id) {
    if (name == names[id].load(std::memory_order_relaxed)) return id;
  }
  if (nameCount == names.size()) return 0;
  char* copy = new char[name.size() + 1];
  std::memcpy(copy, name.c_str(), name.size() + 1);
  names[nameCount].store(copy, std::memory_order_release);
  return nameCount++;
}

const char* PackedCall::called() const {
  const auto id = static_cast<size_t>(environment_.call[1]);
  return id < names.size() ? names[id].load(std::memory_order_acquire) : nullptr;
}

void PackedCall::readTensor(const char* name, TensorView& out, bool required, bool writes) {
  const double handle = *cursor_++;
  if (!status_.ok()) return;
  if (handle == kAbsent) {
    if (required) status_ = Status(Code::value, name, "absent", "Pass a tensor");
    return;
  }
  SlotTable::Slot* slot = environment_.slots.find(handle);
  if (slot == nullptr) {
    status_ =
        Status(Code::disposed, name, "a disposed tensor",
               "Use it before dispose(), return it from tidy(), or retain() it before backward()");
    return;
  }
  Device& device = slot->buffer->device();
  if (&device != &stream()->device()) {
    status_ = Status(Code::device, name, describe(slot->view) + " on " + device.name(),
                     "Every tensor of this call must be on " + stream()->device().name() +
                         "; tensor.to(device) copies it there");
    return;
  }
  if (writes) {
    for (int i = 0; i < slot->view.rank; ++i) {
      if (slot->view.stride[i] == 0 && slot->view.shape[i] > 1) {
        status_ =
            Status(Code::shape, name, describe(slot->view) + ", broadcast",
                   "It is written in place, so each element needs its own memory: contiguous()");
        return;
      }
    }
  }
  out = slot->view;
}

void PackedCall::readTensors(const char* name, TensorList& out, bool writes, bool mayBeEmpty) {
  const auto count = static_cast<size_t>(*cursor_++);
  out.resize(count);
  for (TensorView& t : out) readTensor(name, t, true, writes);
  if (status_.ok() && count == 0 && !mayBeEmpty) {
    status_ = Status(Code::value, name, "an empty list", "Pass at least one tensor");
  }
}

void PackedCall::readIntegers(std::vector<int64_t>& out) {
  out.resize(static_cast<size_t>(*cursor_++));
  for (int64_t& x : out) x = static_cast<int64_t>(*cursor_++);
}

void PackedCall::writeTensor(const TensorView& view, BufferRef buffer) {
  if (!buffer) {
    *cursor_++ = kAbsent;
    return;
  }
  *cursor_++ = environment_.slots.add(view, std::move(buffer));
  *cursor_++ = static_cast<double>(static_cast<int>(view.dtype));
  *cursor_++ = view.rank;
  for (int i = 0; i < view.rank; ++i) *cursor_++ = static_cast<double>(view.shape[i]);
}

}  // namespace longspan::napi
