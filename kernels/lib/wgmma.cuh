// Tensor cores by wgmma: products of 64 rows by the four warps of a warpgroup, under way until waited for.
//
// Warp w of the four holds rows 16 w to 16 w + 15 of the sums, in 16 x 8 fragments as those of mma.cuh. Operands lie in
// shared memory in rows of 128 bytes under the 128-byte swizzle, as copies of boxes of 64 elements leave them: eight rows
// make an atom of 1024 bytes, aligned to that.

#pragma once
#include "types.cuh"

DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until at most `PENDING` of this warpgroup's committed groups are under way.
template <int PENDING>
DEVICE void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Where an operand lies. Its rows in shared memory are those of the output, and its terms are contiguous; or its rows are
// terms, 64 elements of the output in each, and the next 64 lie `panel` bytes further.
DEVICE uint64_t describe(uint32_t start, uint32_t panel) {
    return uint64_t(start) >> 4 | uint64_t(panel >> 4) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

#define FOUR(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define EIGHT_FRAGMENTS(d, j)                                                                                         \
    FOUR(d[j]), FOUR(d[j + 1]), FOUR(d[j + 2]), FOUR(d[j + 3]), FOUR(d[j + 4]), FOUR(d[j + 5]), FOUR(d[j + 6]),       \
        FOUR(d[j + 7])

#define REGISTERS_64                                                                                                  \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"  \
    "%30,%31"
#define REGISTERS_128                                                                                                 \
    REGISTERS_64                                                                                                      \
    ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,"   \
    "%59,%60,%61,%62,%63"
#define REGISTERS_192                                                                                                 \
    REGISTERS_128                                                                                                     \
    ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,"   \
    "%91,%92,%93,%94,%95"

// d += A B, 64 x 192 += 64 x 16 times 16 x 192; of an operand that is ACROSS the rows in shared memory are terms.
template <bool A_ACROSS, bool B_ACROSS>
DEVICE void wgmma(float (&d)[24][4], uint64_t a, uint64_t b) {
    asm volatile("{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" REGISTERS_192
                 "}, %96, %97, add, 1, 1, %98, %99;\n}"
                 : EIGHT_FRAGMENTS(d, 0), EIGHT_FRAGMENTS(d, 8), EIGHT_FRAGMENTS(d, 16)
                 : "l"(a), "l"(b), "n"(A_ACROSS), "n"(B_ACROSS));
}
