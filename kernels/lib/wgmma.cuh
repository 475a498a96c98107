// Tensor cores by wgmma: products of 64 rows by the four warps of a warpgroup, under way until waited for.
//
// Warp w of the four holds rows 16 w to 16 w + 15 of the sums, in 16 x 8 fragments as those of mma.cuh. Operands lie in
// shared memory as copies of boxes leave them: rows of 128, 64 or 32 bytes under the swizzle of that width, or of 16 without
// one; eight rows make an atom, aligned to its size.

#pragma once
#include "types.cuh"

DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until at most `PENDING` of this warpgroup's committed groups are under way.
template <int PENDING>
DEVICE void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Where an operand lies: rows of 128, 64 or 32 bytes under the swizzle of that width, eight of them an atom; or, for `rows` of
// 16 bytes, no swizzle. Its rows in shared memory are those of the output, and its terms are contiguous; or its rows are terms,
// as many elements of the output in each, and the next panel of them lies `panel` bytes further. Terms beyond a row of 16 bytes
// lie `panel` bytes further too.
template <int BYTES>
DEVICE uint64_t describe(uint32_t start, uint32_t panel) {
    constexpr uint64_t SWIZZLE = BYTES == 128 ? 1 : BYTES == 64 ? 2 : BYTES == 32 ? 3 : 0;
    return uint64_t(start) >> 4 | uint64_t(panel >> 4) << 16 | uint64_t(8 * BYTES >> 4) << 32 | SWIZZLE << 62;
}

#define FOUR(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define SUMS_16(d, j) FOUR(d[j]), FOUR(d[j + 1])
#define SUMS_32(d, j) SUMS_16(d, j), SUMS_16(d, j + 2)
#define SUMS_64(d, j) SUMS_32(d, j), SUMS_32(d, j + 4)

// clang-format off
#define NAMES_8 "%0,%1,%2,%3"
#define NAMES_16 NAMES_8 ",%4,%5,%6,%7"
#define NAMES_32 NAMES_16 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define NAMES_64 NAMES_32 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NAMES_128 NAMES_64 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47" \
                           ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define NAMES_192 NAMES_128 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79" \
                            ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
// clang-format on

// d += A B, 64 x N += 64 x 16 times 16 x N, or d = A B where not `add`; of an operand that is ACROSS the rows in shared memory
// are terms.
#define WGMMA(N, A, B, ADD, A_ACROSS_, B_ACROSS_, ...)                                                                \
    template <bool A_ACROSS, bool B_ACROSS>                                                                           \
    DEVICE void wgmma(float (&d)[N / 8][4], uint64_t a, uint64_t b, bool add = true) {                                \
        asm volatile("{\n.reg .pred add;\nsetp.ne.u32 add, " ADD ", 0;\n"                                             \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" NAMES_##N "}, " A ", " B            \
                     ", add, 1, 1, " A_ACROSS_ ", " B_ACROSS_ ";\n}"                                                  \
                     : __VA_ARGS__                                                                                    \
                     : "l"(a), "l"(b), "r"(uint32_t(add)), "n"(A_ACROSS), "n"(B_ACROSS));                             \
    }
WGMMA(32, "%16", "%17", "%18", "%19", "%20", SUMS_32(d, 0))
WGMMA(64, "%32", "%33", "%34", "%35", "%36", SUMS_64(d, 0))
WGMMA(128, "%64", "%65", "%66", "%67", "%68", SUMS_64(d, 0), SUMS_64(d, 8))
WGMMA(192, "%96", "%97", "%98", "%99", "%100", SUMS_64(d, 0), SUMS_64(d, 8), SUMS_64(d, 16))

// The same with A in registers, a fragment of 16 rows in each warp, and B across.
#define WGMMA_REGISTERS(N, A, B, ADD, ...)                                                                            \
    DEVICE void wgmma(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b, bool add = true) {                    \
        asm volatile("{\n.reg .pred add;\nsetp.ne.u32 add, " ADD ", 0;\n"                                             \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" NAMES_##N "}, {" A "}, " B          \
                     ", add, 1, 1, 1;\n}"                                                                             \
                     : __VA_ARGS__                                                                                    \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(uint32_t(add)));                       \
    }
WGMMA_REGISTERS(8, "%4,%5,%6,%7", "%8", "%9", FOUR(d[0]))
WGMMA_REGISTERS(16, "%8,%9,%10,%11", "%12", "%13", SUMS_16(d, 0))
WGMMA_REGISTERS(32, "%16,%17,%18,%19", "%20", "%21", SUMS_32(d, 0))
WGMMA_REGISTERS(64, "%32,%33,%34,%35", "%36", "%37", SUMS_64(d, 0))
