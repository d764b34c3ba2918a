// Many tensors in few launches: lists of tensors that belong together (a parameter, its gradient,
// its moments) are packed into the argument of a kernel, whose blocks take pieces of
// kOptimizerPiece elements. A tensor that is not dense has its lists walked by stride in a launch
// of its own.
#pragma once

#include "cpp/ops/dense/optimizer.h"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {

// An element of a floating tensor whose dtype is known at run time; all threads branch alike.
struct Slot {
  void* data = nullptr;  // null: absent
  DType dtype = DType::f32;
};

inline Slot slotOf(const TensorView& t) {
  return {t.base + t.offset * static_cast<int64_t>(sizeOf(t.dtype)), t.dtype};
}

inline Slot optionalSlot(const TensorView& t) { return t.defined() ? slotOf(t) : Slot{}; }

inline constexpr int kSlotLanes = 4;

// Elements at .. at + 3, or the first n of them.
__device__ __forceinline__ void loadSlot(const Slot& slot, int64_t at, int n,
                                         float (&to)[kSlotLanes]) {
  const auto read = [&](const auto* x) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(x)>>;
    Vector<T, kSlotLanes> v{};
    if (n == kSlotLanes && reinterpret_cast<uintptr_t>(x + at) % sizeof(v) == 0) {
      loadVector(x + at, v);
    } else {
#pragma unroll
      for (int i = 0; i < kSlotLanes; ++i) {
        if (i < n) v.at[i] = x[at + i];
      }
    }
#pragma unroll
    for (int i = 0; i < kSlotLanes; ++i) to[i] = toFloat(v.at[i]);
  };
  if (slot.dtype == DType::f16) return read(static_cast<const f16*>(slot.data));
  if (slot.dtype == DType::bf16) return read(static_cast<const bf16*>(slot.data));
  read(static_cast<const float*>(slot.data));
}

__device__ __forceinline__ void storeSlot(const Slot& slot, int64_t at, int n,
                                          const float (&from)[kSlotLanes]) {
  const auto write = [&](auto* y) {
    using T = std::remove_pointer_t<decltype(y)>;
    Vector<T, kSlotLanes> v;
#pragma unroll
    for (int i = 0; i < kSlotLanes; ++i) v.at[i] = fromFloat<T>(from[i]);
    if (n == kSlotLanes && reinterpret_cast<uintptr_t>(y + at) % sizeof(v) == 0) {
      storeVector(y + at, v);
    } else {
#pragma unroll
      for (int i = 0; i < kSlotLanes; ++i) {
        if (i < n) y[at + i] = v.at[i];
      }
    }
  };
  if (slot.dtype == DType::f16) return write(static_cast<f16*>(slot.data));
  if (slot.dtype == DType::bf16) return write(static_cast<bf16*>(slot.data));
  write(static_cast<float*>(slot.data));
}

// A number of one element on the device: a float, or i32.
__device__ __forceinline__ double numberOf(const Slot& slot, double absent) {
  if (slot.data == nullptr) return absent;
  switch (slot.dtype) {
    case DType::i32:
      return *static_cast<const int32_t*>(slot.data);
    case DType::f16:
      return toFloat(*static_cast<const f16*>(slot.data));
    case DType::bf16:
      return toFloat(*static_cast<const bf16*>(slot.data));
    default:
      return *static_cast<const float*>(slot.data);
  }
}

// Up to kTensors rows of kLists tensors, as many as fit into 3.5 KiB of kernel arguments.
template <int kLists>
struct Pack {
  static constexpr int kTensors = 3584 / (16 * kLists + 16);
  Slot slot[kTensors][kLists];
  int64_t size[kTensors];
  int32_t firstPiece[kTensors + 1];
  int32_t count = 0;
};

// A piece of a packed tensor.
template <int kLists>
struct Piece {
  const Slot* slot;  // of each list
  int64_t first;
  int64_t count;
};

template <int kLists>
__device__ __forceinline__ Piece<kLists> pieceOf(const Pack<kLists>& pack, int32_t piece) {
  int low = 0, high = pack.count - 1;  // the last tensor that does not begin after the piece
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (pack.firstPiece[middle] <= piece) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const int64_t first = (piece - pack.firstPiece[low]) * ops::kOptimizerPiece;
  const int64_t left = pack.size[low] - first;
  return {pack.slot[low], first, left < ops::kOptimizerPiece ? left : ops::kOptimizerPiece};
}

// Calls dense(pack) for packs of dense tensors and strided(i) for each other tensor i. A list may
// be empty; lists[0] is not, unless there is nothing to do.
template <int kLists, class Dense, class Strided>
Status forPacks(const std::array<const TensorList*, kLists>& lists, Dense&& dense,
                Strided&& strided) {
  Pack<kLists> pack;
  int32_t pieces = 0;
  const auto flush = [&]() -> Status {
    if (pack.count == 0) return {};
    pack.firstPiece[pack.count] = pieces;
    const Status status = dense(pack, static_cast<uint32_t>(pieces));
    pack.count = pieces = 0;
    return status;
  };
  for (size_t i = 0; i < lists[0]->size(); ++i) {
    const int64_t size = (*lists[0])[i].numel();
    if (size == 0) continue;
    bool isDense = true;
    for (const TensorList* list : lists) {
      isDense = isDense && (list->empty() || (*list)[i].contiguous());
    }
    if (!isDense) {
      LONGSPAN_RETURN_IF_ERROR(strided(i));
      continue;
    }
    const int64_t own = (size + ops::kOptimizerPiece - 1) / ops::kOptimizerPiece;
    constexpr int64_t kMostPieces = int64_t{1} << 30;
    if (pack.count == Pack<kLists>::kTensors || pieces + own > kMostPieces) {
      LONGSPAN_RETURN_IF_ERROR(flush());
    }
    for (int l = 0; l < kLists; ++l) {
      pack.slot[pack.count][l] = lists[l]->empty() ? Slot{} : slotOf((*lists[l])[i]);
    }
    pack.size[pack.count] = size;
    pack.firstPiece[pack.count++] = pieces;
    pieces += static_cast<int32_t>(own);
  }
  return flush();
}

// An update of elements that stand at one place of kLists tensors:
//
//   struct Op {
//     static constexpr int kLists = 2;
//     uint32_t reads, writes;   // bit l: list l is read, written
//     __device__ bool begin();  // reads what it needs from the device; false: nothing to do
//     __device__ void operator()(float (&v)[kLists][kSlotLanes]) const;
//   };
template <class Op>
__device__ __forceinline__ void updateAt(const Op& op, const Slot* slot, const int64_t* at, int n) {
  float v[Op::kLists][kSlotLanes] = {};
#pragma unroll
  for (int l = 0; l < Op::kLists; ++l) {
    if (op.reads >> l & 1) loadSlot(slot[l], at[l], n, v[l]);
  }
  op(v);
#pragma unroll
  for (int l = 0; l < Op::kLists; ++l) {
    if (op.writes >> l & 1) storeSlot(slot[l], at[l], n, v[l]);
  }
}

template <class Op>
__global__ void __launch_bounds__(kThreads)
    updatePackKernel(Op op, const __grid_constant__ Pack<Op::kLists> pack) {
  if (!op.begin()) return;
  const auto piece = pieceOf(pack, static_cast<int32_t>(blockIdx.x));
  constexpr int kStep = kThreads * kSlotLanes;
  for (int64_t i = threadIdx.x * kSlotLanes; i < piece.count; i += kStep) {
    int64_t at[Op::kLists];
#pragma unroll
    for (int l = 0; l < Op::kLists; ++l) at[l] = piece.first + i;
    const int64_t left = piece.count - i;
    updateAt(op, piece.slot, at, left < kSlotLanes ? static_cast<int>(left) : kSlotLanes);
  }
}

template <int kLists>
struct Slots {
  Slot of[kLists];
};

template <class Op>
__global__ void __launch_bounds__(kThreads)
    updateStridedKernel(Op op, const __grid_constant__ Slots<Op::kLists> slots,
                        const __grid_constant__ Walk<Op::kLists, 1> walk) {
  if (!op.begin()) return;
  for (int64_t i = gridThread(); i < walk.groups; i += gridThreads()) {
    updateAt(op, slots.of, walk.place(i).at, 1);
  }
}

template <class Op>
Status updateTensors(const Op& op, const std::array<const TensorList*, Op::kLists>& lists,
                     Context& context) {
  return forPacks<Op::kLists>(
      lists,
      [&](const Pack<Op::kLists>& pack, uint32_t pieces) {
        return launched(launch(updatePackKernel<Op>, dim3(pieces), dim3(kThreads), 0,
                               context.stream, op, pack));
      },
      [&](size_t i) {
        Slots<Op::kLists> slots;
        std::array<const TensorView*, Op::kLists> views;
        for (int l = 0; l < Op::kLists; ++l) {
          const bool absent = lists[l]->empty();
          views[l] = &(*lists[absent ? 0 : l])[i];
          slots.of[l] = absent ? Slot{} : slotOf(*views[l]);
        }
        const Walk<Op::kLists, 1> walk(views);
        return launched(launch(updateStridedKernel<Op>, dim3(blocksFor(walk.groups, context.gpu)),
                               dim3(kThreads), 0, context.stream, op, slots, walk));
      });
}

}  // namespace longspan::cuda
