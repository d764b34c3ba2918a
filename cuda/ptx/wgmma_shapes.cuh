// The asm statements behind wgmma.cuh, one per width: an instruction names each of its N / 2
// accumulator registers, so the register lists are built by macros, four at a time.
#pragma once

#include "cuda/ptx/base.cuh"

// clang-format off
#define LONGSPAN_WG_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define LONGSPAN_WG_OUT8 LONGSPAN_WG_D4(0)
#define LONGSPAN_WG_TEXT8 "%0,%1,%2,%3"
#define LONGSPAN_WG_OUT16 LONGSPAN_WG_OUT8, LONGSPAN_WG_D4(4)
#define LONGSPAN_WG_TEXT16 LONGSPAN_WG_TEXT8 ",%4,%5,%6,%7"
#define LONGSPAN_WG_OUT24 LONGSPAN_WG_OUT16, LONGSPAN_WG_D4(8)
#define LONGSPAN_WG_TEXT24 LONGSPAN_WG_TEXT16 ",%8,%9,%10,%11"
#define LONGSPAN_WG_OUT32 LONGSPAN_WG_OUT24, LONGSPAN_WG_D4(12)
#define LONGSPAN_WG_TEXT32 LONGSPAN_WG_TEXT24 ",%12,%13,%14,%15"
#define LONGSPAN_WG_OUT40 LONGSPAN_WG_OUT32, LONGSPAN_WG_D4(16)
#define LONGSPAN_WG_TEXT40 LONGSPAN_WG_TEXT32 ",%16,%17,%18,%19"
#define LONGSPAN_WG_OUT48 LONGSPAN_WG_OUT40, LONGSPAN_WG_D4(20)
#define LONGSPAN_WG_TEXT48 LONGSPAN_WG_TEXT40 ",%20,%21,%22,%23"
#define LONGSPAN_WG_OUT56 LONGSPAN_WG_OUT48, LONGSPAN_WG_D4(24)
#define LONGSPAN_WG_TEXT56 LONGSPAN_WG_TEXT48 ",%24,%25,%26,%27"
#define LONGSPAN_WG_OUT64 LONGSPAN_WG_OUT56, LONGSPAN_WG_D4(28)
#define LONGSPAN_WG_TEXT64 LONGSPAN_WG_TEXT56 ",%28,%29,%30,%31"
#define LONGSPAN_WG_OUT72 LONGSPAN_WG_OUT64, LONGSPAN_WG_D4(32)
#define LONGSPAN_WG_TEXT72 LONGSPAN_WG_TEXT64 ",%32,%33,%34,%35"
#define LONGSPAN_WG_OUT80 LONGSPAN_WG_OUT72, LONGSPAN_WG_D4(36)
#define LONGSPAN_WG_TEXT80 LONGSPAN_WG_TEXT72 ",%36,%37,%38,%39"
#define LONGSPAN_WG_OUT88 LONGSPAN_WG_OUT80, LONGSPAN_WG_D4(40)
#define LONGSPAN_WG_TEXT88 LONGSPAN_WG_TEXT80 ",%40,%41,%42,%43"
#define LONGSPAN_WG_OUT96 LONGSPAN_WG_OUT88, LONGSPAN_WG_D4(44)
#define LONGSPAN_WG_TEXT96 LONGSPAN_WG_TEXT88 ",%44,%45,%46,%47"
#define LONGSPAN_WG_OUT104 LONGSPAN_WG_OUT96, LONGSPAN_WG_D4(48)
#define LONGSPAN_WG_TEXT104 LONGSPAN_WG_TEXT96 ",%48,%49,%50,%51"
#define LONGSPAN_WG_OUT112 LONGSPAN_WG_OUT104, LONGSPAN_WG_D4(52)
#define LONGSPAN_WG_TEXT112 LONGSPAN_WG_TEXT104 ",%52,%53,%54,%55"
#define LONGSPAN_WG_OUT120 LONGSPAN_WG_OUT112, LONGSPAN_WG_D4(56)
#define LONGSPAN_WG_TEXT120 LONGSPAN_WG_TEXT112 ",%56,%57,%58,%59"
#define LONGSPAN_WG_OUT128 LONGSPAN_WG_OUT120, LONGSPAN_WG_D4(60)
#define LONGSPAN_WG_TEXT128 LONGSPAN_WG_TEXT120 ",%60,%61,%62,%63"
#define LONGSPAN_WG_OUT136 LONGSPAN_WG_OUT128, LONGSPAN_WG_D4(64)
#define LONGSPAN_WG_TEXT136 LONGSPAN_WG_TEXT128 ",%64,%65,%66,%67"
#define LONGSPAN_WG_OUT144 LONGSPAN_WG_OUT136, LONGSPAN_WG_D4(68)
#define LONGSPAN_WG_TEXT144 LONGSPAN_WG_TEXT136 ",%68,%69,%70,%71"
#define LONGSPAN_WG_OUT152 LONGSPAN_WG_OUT144, LONGSPAN_WG_D4(72)
#define LONGSPAN_WG_TEXT152 LONGSPAN_WG_TEXT144 ",%72,%73,%74,%75"
#define LONGSPAN_WG_OUT160 LONGSPAN_WG_OUT152, LONGSPAN_WG_D4(76)
#define LONGSPAN_WG_TEXT160 LONGSPAN_WG_TEXT152 ",%76,%77,%78,%79"
#define LONGSPAN_WG_OUT168 LONGSPAN_WG_OUT160, LONGSPAN_WG_D4(80)
#define LONGSPAN_WG_TEXT168 LONGSPAN_WG_TEXT160 ",%80,%81,%82,%83"
#define LONGSPAN_WG_OUT176 LONGSPAN_WG_OUT168, LONGSPAN_WG_D4(84)
#define LONGSPAN_WG_TEXT176 LONGSPAN_WG_TEXT168 ",%84,%85,%86,%87"
#define LONGSPAN_WG_OUT184 LONGSPAN_WG_OUT176, LONGSPAN_WG_D4(88)
#define LONGSPAN_WG_TEXT184 LONGSPAN_WG_TEXT176 ",%88,%89,%90,%91"
#define LONGSPAN_WG_OUT192 LONGSPAN_WG_OUT184, LONGSPAN_WG_D4(92)
#define LONGSPAN_WG_TEXT192 LONGSPAN_WG_TEXT184 ",%92,%93,%94,%95"
#define LONGSPAN_WG_OUT200 LONGSPAN_WG_OUT192, LONGSPAN_WG_D4(96)
#define LONGSPAN_WG_TEXT200 LONGSPAN_WG_TEXT192 ",%96,%97,%98,%99"
#define LONGSPAN_WG_OUT208 LONGSPAN_WG_OUT200, LONGSPAN_WG_D4(100)
#define LONGSPAN_WG_TEXT208 LONGSPAN_WG_TEXT200 ",%100,%101,%102,%103"
#define LONGSPAN_WG_OUT216 LONGSPAN_WG_OUT208, LONGSPAN_WG_D4(104)
#define LONGSPAN_WG_TEXT216 LONGSPAN_WG_TEXT208 ",%104,%105,%106,%107"
#define LONGSPAN_WG_OUT224 LONGSPAN_WG_OUT216, LONGSPAN_WG_D4(108)
#define LONGSPAN_WG_TEXT224 LONGSPAN_WG_TEXT216 ",%108,%109,%110,%111"
#define LONGSPAN_WG_OUT232 LONGSPAN_WG_OUT224, LONGSPAN_WG_D4(112)
#define LONGSPAN_WG_TEXT232 LONGSPAN_WG_TEXT224 ",%112,%113,%114,%115"
#define LONGSPAN_WG_OUT240 LONGSPAN_WG_OUT232, LONGSPAN_WG_D4(116)
#define LONGSPAN_WG_TEXT240 LONGSPAN_WG_TEXT232 ",%116,%117,%118,%119"
#define LONGSPAN_WG_OUT248 LONGSPAN_WG_OUT240, LONGSPAN_WG_D4(120)
#define LONGSPAN_WG_TEXT248 LONGSPAN_WG_TEXT240 ",%120,%121,%122,%123"
#define LONGSPAN_WG_OUT256 LONGSPAN_WG_OUT248, LONGSPAN_WG_D4(124)
#define LONGSPAN_WG_TEXT256 LONGSPAN_WG_TEXT248 ",%124,%125,%126,%127"

// N, and the numbers of the operands after the accumulator.
#define LONGSPAN_WGMMA(T, name, N, a0, a1, a2, a3, a4, a5, a6)                                       \
  template <Major A, Major B>                                                                     \
  struct WgmmaShared<T, N, A, B> {                                                                \
    LONGSPAN_WG_RUN void run(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {        \
      asm volatile(                                                                               \
          "{\n.reg .pred p;\nsetp.ne.b32 p, %" #a2 ", 0;\n"                                       \
          "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." name "." name " {" LONGSPAN_WG_TEXT##N \
          "}, %" #a0 ", %" #a1 ", p, 1, 1, %" #a3 ", %" #a4 ";\n}"                                \
          : LONGSPAN_WG_OUT##N                                                                    \
          : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(A)),          \
            "n"(static_cast<int>(B)));                                                            \
    }                                                                                             \
  };                                                                                              \
  template <Major B>                                                                              \
  struct WgmmaRegisters<T, N, B> {                                                                \
    LONGSPAN_WG_RUN void run(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,               \
                             bool accumulate) {                                                   \
      asm volatile(                                                                               \
          "{\n.reg .pred p;\nsetp.ne.b32 p, %" #a5 ", 0;\n"                                       \
          "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." name "." name " {" LONGSPAN_WG_TEXT##N \
          "}, {%" #a0 ",%" #a1 ",%" #a2 ",%" #a3 "}, %" #a4 ", p, 1, 1, %" #a6 ";\n}" \
          : LONGSPAN_WG_OUT##N                                                                    \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                                   \
            "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(B)));                         \
    }                                                                                             \
  };
#define LONGSPAN_WG_RUN static __device__ __forceinline__
#define LONGSPAN_WGMMA_TYPES(...) LONGSPAN_WGMMA(f16, "f16", __VA_ARGS__) LONGSPAN_WGMMA(bf16, "bf16", __VA_ARGS__)

namespace longspan::cuda::ptx {

LONGSPAN_WGMMA_TYPES(8, 4, 5, 6, 7, 8, 9, 10)
LONGSPAN_WGMMA_TYPES(16, 8, 9, 10, 11, 12, 13, 14)
LONGSPAN_WGMMA_TYPES(24, 12, 13, 14, 15, 16, 17, 18)
LONGSPAN_WGMMA_TYPES(32, 16, 17, 18, 19, 20, 21, 22)
LONGSPAN_WGMMA_TYPES(40, 20, 21, 22, 23, 24, 25, 26)
LONGSPAN_WGMMA_TYPES(48, 24, 25, 26, 27, 28, 29, 30)
LONGSPAN_WGMMA_TYPES(56, 28, 29, 30, 31, 32, 33, 34)
LONGSPAN_WGMMA_TYPES(64, 32, 33, 34, 35, 36, 37, 38)
LONGSPAN_WGMMA_TYPES(72, 36, 37, 38, 39, 40, 41, 42)
LONGSPAN_WGMMA_TYPES(80, 40, 41, 42, 43, 44, 45, 46)
LONGSPAN_WGMMA_TYPES(88, 44, 45, 46, 47, 48, 49, 50)
LONGSPAN_WGMMA_TYPES(96, 48, 49, 50, 51, 52, 53, 54)
LONGSPAN_WGMMA_TYPES(104, 52, 53, 54, 55, 56, 57, 58)
LONGSPAN_WGMMA_TYPES(112, 56, 57, 58, 59, 60, 61, 62)
LONGSPAN_WGMMA_TYPES(120, 60, 61, 62, 63, 64, 65, 66)
LONGSPAN_WGMMA_TYPES(128, 64, 65, 66, 67, 68, 69, 70)
LONGSPAN_WGMMA_TYPES(136, 68, 69, 70, 71, 72, 73, 74)
LONGSPAN_WGMMA_TYPES(144, 72, 73, 74, 75, 76, 77, 78)
LONGSPAN_WGMMA_TYPES(152, 76, 77, 78, 79, 80, 81, 82)
LONGSPAN_WGMMA_TYPES(160, 80, 81, 82, 83, 84, 85, 86)
LONGSPAN_WGMMA_TYPES(168, 84, 85, 86, 87, 88, 89, 90)
LONGSPAN_WGMMA_TYPES(176, 88, 89, 90, 91, 92, 93, 94)
LONGSPAN_WGMMA_TYPES(184, 92, 93, 94, 95, 96, 97, 98)
LONGSPAN_WGMMA_TYPES(192, 96, 97, 98, 99, 100, 101, 102)
LONGSPAN_WGMMA_TYPES(200, 100, 101, 102, 103, 104, 105, 106)
LONGSPAN_WGMMA_TYPES(208, 104, 105, 106, 107, 108, 109, 110)
LONGSPAN_WGMMA_TYPES(216, 108, 109, 110, 111, 112, 113, 114)
LONGSPAN_WGMMA_TYPES(224, 112, 113, 114, 115, 116, 117, 118)
LONGSPAN_WGMMA_TYPES(232, 116, 117, 118, 119, 120, 121, 122)
LONGSPAN_WGMMA_TYPES(240, 120, 121, 122, 123, 124, 125, 126)
LONGSPAN_WGMMA_TYPES(248, 124, 125, 126, 127, 128, 129, 130)
LONGSPAN_WGMMA_TYPES(256, 128, 129, 130, 131, 132, 133, 134)

}  // namespace longspan::cuda::ptx
// clang-format on

#undef LONGSPAN_WGMMA_TYPES
#undef LONGSPAN_WGMMA
#undef LONGSPAN_WG_RUN
