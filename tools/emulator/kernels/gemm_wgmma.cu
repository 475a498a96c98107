// C = A B^T for Hopper: tiles by the bulk copy engine under the 128-byte swizzle, a ring of mbarriers, one warpgroup that
// produces and two that multiply by wgmma.

#include "asm.cuh"
#include <cuda.h>

constexpr int TILE_M = 128, TILE_N = 128, TILE_K = 64, STAGES = 3;
constexpr int BYTES_A = TILE_M * TILE_K * 2, BYTES_B = TILE_N * TILE_K * 2;

// d = a b + d, 64x128 += 64x16 times 16x128.
DEVICE void multiply(float* d, uint64_t a, uint64_t b, int accumulate) {
    asm volatile(
        "{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, accumulate, 1, 1, 0, 0;\n}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
        : "l"(a), "l"(b), "r"(accumulate));
}

// A is MxK and B is NxK behind tensor maps with boxes of 128x64; K is a multiple of 64 and N of 2.
extern "C" __global__ void __launch_bounds__(384) gemm_wgmma(const __grid_constant__ CUtensorMap a,
                                                            const __grid_constant__ CUtensorMap b,
                                                            bf16* __restrict__ c, int m, int n, int k) {
    extern __shared__ __align__(1024) uint8_t memory[];
    __shared__ __align__(8) uint64_t full[STAGES], empty[STAGES];
    uint32_t tiles = shared_address(memory), fulls = shared_address(full), empties = shared_address(empty);
    int group = threadIdx.x / 128, row0 = blockIdx.y * TILE_M, column0 = blockIdx.x * TILE_N, steps = k / TILE_K;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            init_barrier(fulls + 8 * stage, 1);
            init_barrier(empties + 8 * stage, 2);
        }
        fence_barrier_init();
    }
    __syncthreads();
    if (group == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0) {
            int stage = 0, phase = 1;
            for (int step = 0; step < steps; step++) {
                wait(empties + 8 * stage, phase);
                expect_bytes(fulls + 8 * stage, BYTES_A + BYTES_B);
                uint32_t to = tiles + stage * (BYTES_A + BYTES_B);
                load_tile(to, &a, fulls + 8 * stage, step * TILE_K, row0);
                load_tile(to + BYTES_A, &b, fulls + 8 * stage, step * TILE_K, column0);
                if (++stage == STAGES) stage = 0, phase ^= 1;
            }
        }
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    float d[64];
    int stage = 0, phase = 0;
    for (int step = 0; step < steps; step++) {
        wait(fulls + 8 * stage, phase);
        uint32_t from = tiles + stage * (BYTES_A + BYTES_B), from_a = from + (group - 1) * 64 * 128;
        wgmma_fence();
#pragma unroll
        for (int part = 0; part < 4; part++)
            multiply(d, describe(from_a + part * 32), describe(from + BYTES_A + part * 32), step || part);
        wgmma_commit();
        wgmma_wait<0>();
        if (threadIdx.x % 128 == 0) arrive(empties + 8 * stage);
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
    int warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
    int row = row0 + (group - 1) * 64 + warp * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < 16; j++) {
        int column = column0 + j * 8 + lane % 4 * 2;
        if (column >= n) continue;
        if (row < m) *reinterpret_cast<uint32_t*>(c + size_t(row) * n + column) = pack(d[4 * j], d[4 * j + 1]);
        if (row + 8 < m) *reinterpret_cast<uint32_t*>(c + size_t(row + 8) * n + column) = pack(d[4 * j + 2], d[4 * j + 3]);
    }
}
