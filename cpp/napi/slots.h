// The table behind tensor handles. A handle is generation * 2^24 + slot, exact in a JS number, so
// that a call passes tensors as numbers and a stale handle is recognised.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <vector>

#include "cpp/core/buffer.h"
#include "cpp/core/tensor_view.h"

namespace longspan::napi {

using Handle = double;
inline constexpr Handle kAbsent = -1;

class SlotTable {
 public:
  struct Slot {
    TensorView view;
    BufferRef buffer;
    napi_ref weak = nullptr;  // to the Tensor object, once it exists
    uint32_t generation = 1;
  };

  Handle add(const TensorView& view, BufferRef buffer);
  // Null when the handle is stale.
  Slot* find(Handle handle);
  bool release(napi_env env, Handle handle);
  // Attaches the object that stands for the handle: once it is collected, sweep() releases the
  // slot.
  void track(napi_env env, Handle handle, napi_value object);
  // Releases slots whose objects are gone. Unlike finalizers this works inside a synchronous loop:
  // V8 clears weak references while it collects, whereas Node-API finalizers wait for the event
  // loop.
  int sweep(napi_env env);
  // True once enough slots or bytes have come since the last sweep to make another worth its time.
  bool sweepDue() const { return sinceSweep_ > dueSlots_ || bytesSinceSweep_ > dueBytes_; }
  void clear() { slots_.clear(); }

  size_t live() const { return live_; }
  // Storage behind the slots, a buffer counted once per view: what V8 is told hangs on its objects.
  int64_t liveBytes() const { return liveBytes_; }

 private:
  void releaseAt(napi_env env, uint32_t index);

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  size_t live_ = 0;
  int64_t liveBytes_ = 0;
  size_t sinceSweep_ = 0, dueSlots_ = 2048;
  int64_t bytesSinceSweep_ = 0, dueBytes_ = int64_t{64} << 20;
};

}  // namespace longspan::napi
