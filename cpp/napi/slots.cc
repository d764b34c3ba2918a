#include "cpp/napi/slots.h"

#include <algorithm>

namespace longspan::napi {
namespace {

constexpr double kSlotBase = 16777216.0;  // 2^24
constexpr uint32_t kMaxGeneration = (1u << 28) - 1;

}  // namespace

Handle SlotTable::add(const TensorView& view, BufferRef buffer) {
  uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  }
  Slot& slot = slots_[index];
  slot.view = view;
  slot.buffer = std::move(buffer);
  slot.view.buffer = slot.buffer.get();
  ++live_;
  ++sinceSweep_;
  bytesSinceSweep_ += static_cast<int64_t>(slot.buffer->bytes());
  liveBytes_ += static_cast<int64_t>(slot.buffer->bytes());
  return slot.generation * kSlotBase + index;
}

SlotTable::Slot* SlotTable::find(Handle handle) {
  if (!(handle >= 0) || handle >= kSlotBase * kSlotBase * 16) return nullptr;
  const auto packed = static_cast<uint64_t>(handle);
  const auto index = static_cast<uint32_t>(packed & 0xffffff);
  if (index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  return slot.buffer != nullptr && slot.generation == packed >> 24 ? &slot : nullptr;
}

void SlotTable::releaseAt(napi_env env, uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.weak != nullptr) napi_delete_reference(env, slot.weak);
  slot.weak = nullptr;
  liveBytes_ -= static_cast<int64_t>(slot.buffer->bytes());
  slot.buffer.reset();
  slot.view = TensorView();
  slot.generation = slot.generation >= kMaxGeneration ? 1 : slot.generation + 1;
  free_.push_back(index);
  --live_;
}

bool SlotTable::release(napi_env env, Handle handle) {
  Slot* slot = find(handle);
  if (slot == nullptr) return false;
  releaseAt(env, static_cast<uint32_t>(slot - slots_.data()));
  return true;
}

void SlotTable::track(napi_env env, Handle handle, napi_value object) {
  Slot* slot = find(handle);
  if (slot != nullptr && slot->weak == nullptr) napi_create_reference(env, object, 0, &slot->weak);
}

int SlotTable::sweep(napi_env env) {
  int released = 0;
  for (uint32_t index = 0; index < slots_.size(); ++index) {
    Slot& slot = slots_[index];
    if (slot.buffer == nullptr) continue;
    if (slot.weak != nullptr) {
      napi_handle_scope scope;
      napi_value value = nullptr;
      napi_open_handle_scope(env, &scope);
      napi_get_reference_value(env, slot.weak, &value);
      const bool collected = value == nullptr;
      napi_close_handle_scope(env, scope);
      if (collected) {
        releaseAt(env, index);
        ++released;
        continue;
      }
    }
  }
  sinceSweep_ = 0;
  bytesSinceSweep_ = 0;
  dueSlots_ = std::max<size_t>(2048, live_);
  dueBytes_ = std::max<int64_t>(int64_t{64} << 20, liveBytes_ / 4);
  return released;
}

}  // namespace longspan::napi
