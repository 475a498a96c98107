// C = A B^T in bf16 with f32 sums: cp.async in three stages, ldmatrix from swizzled rows, mma.sync.

#include "asm.cuh"

constexpr int TILE_M = 64, TILE_N = 64, TILE_K = 32, STAGES = 3;

// Rows of 64 bytes in chunks of 16; eight rows of one column lie in eight different groups of banks.
DEVICE uint32_t swizzled(int row, int chunk) { return row * 64 + ((chunk ^ (row >> 1 & 3)) << 4); }

// A is MxK and B is NxK, rows contiguous; K is a multiple of 32 and N of 2. Four warps, each 32x32 of C.
extern "C" __global__ void __launch_bounds__(128) gemm_mma(const bf16* __restrict__ a, const bf16* __restrict__ b,
                                                          bf16* __restrict__ c, int m, int n, int k) {
    extern __shared__ __align__(128) uint8_t memory[];
    uint32_t tile_a = shared_address(memory), tile_b = tile_a + STAGES * TILE_M * 64;
    int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    int row0 = blockIdx.y * TILE_M, column0 = blockIdx.x * TILE_N;
    int warp_row = warp % 2 * 32, warp_column = warp / 2 * 32;

    auto load = [&](int stage, int step) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int row = (thread + i * 128) / 4, chunk = thread % 4, at = step * TILE_K + chunk * 8;
            bool in_a = row0 + row < m, in_b = column0 + row < n;
            copy16(tile_a + stage * TILE_M * 64 + swizzled(row, chunk), a + size_t(in_a ? row0 + row : 0) * k + at,
                   in_a ? 16 : 0);
            copy16(tile_b + stage * TILE_N * 64 + swizzled(row, chunk), b + size_t(in_b ? column0 + row : 0) * k + at,
                   in_b ? 16 : 0);
        }
    };

    float sums[2][4][4] = {};
    int steps = k / TILE_K;
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (stage < steps) load(stage, stage);
        commit_copies();
    }
    for (int step = 0; step < steps; step++) {
        wait_copies<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps) load((step + STAGES - 1) % STAGES, step + STAGES - 1);
        commit_copies();
        uint32_t from_a = tile_a + step % STAGES * TILE_M * 64, from_b = tile_b + step % STAGES * TILE_N * 64;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t fa[2][4], fb[4][2];
#pragma unroll
            for (int i = 0; i < 2; i++)
                load_matrices(fa[i], from_a + swizzled(warp_row + i * 16 + lane % 16, half * 2 + lane / 16));
#pragma unroll
            for (int j = 0; j < 2; j++) {
                uint32_t four[4];
                int row = warp_column + j * 16 + lane % 8 + lane / 16 * 8;
                load_matrices(four, from_b + swizzled(row, half * 2 + lane / 8 % 2));
                fb[2 * j][0] = four[0], fb[2 * j][1] = four[1], fb[2 * j + 1][0] = four[2], fb[2 * j + 1][1] = four[3];
            }
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) mma_bf16(sums[i][j], fa[i], fb[j]);
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int row = row0 + warp_row + i * 16 + lane / 4, column = column0 + warp_column + j * 8 + lane % 4 * 2;
            if (column >= n) continue;
            if (row < m) *reinterpret_cast<uint32_t*>(c + size_t(row) * n + column) = pack(sums[i][j][0], sums[i][j][1]);
            if (row + 8 < m)
                *reinterpret_cast<uint32_t*>(c + size_t(row + 8) * n + column) = pack(sums[i][j][2], sums[i][j][3]);
        }
}
