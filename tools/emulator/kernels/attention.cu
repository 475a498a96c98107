// Attention of one head of width 64: a double buffer of keys and values, online softmax, mma.sync for both products.

#include "asm.cuh"

constexpr int ROWS = 64;

// Rows of 128 bytes in chunks of 16.
DEVICE uint32_t swizzled(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

DEVICE float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

DEVICE float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// out = softmax(q k^T scale) v for `tokens` rows of 64, one head for each blockIdx.y. `scale` includes log2(e).
extern "C" __global__ void __launch_bounds__(128) attention(const bf16* __restrict__ q, const bf16* __restrict__ k,
                                                           const bf16* __restrict__ v, bf16* __restrict__ out,
                                                           int tokens, float scale) {
    __shared__ __align__(128) uint8_t queries[ROWS * 128], keys[2][ROWS * 128], values[2][ROWS * 128];
    int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, row0 = blockIdx.x * ROWS;
    size_t head = size_t(blockIdx.y) * tokens * 64;

    auto load = [&](const void* to, const bf16* from, int first) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = (thread + i * 128) / 8, chunk = thread % 8;
            bool inside = first + row < tokens;
            copy16(shared_address(to) + swizzled(row, chunk), from + head + (inside ? first + row : 0) * 64 + chunk * 8,
                   inside ? 16 : 0);
        }
    };

    load(queries, q, row0);
    load(keys[0], k, 0);
    load(values[0], v, 0);
    commit_copies();
    float sums[8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {};
    uint32_t fq[4][4];
    int blocks = (tokens + ROWS - 1) / ROWS;
    for (int block = 0; block < blocks; block++) {
        wait_copies<0>();
        __syncthreads();
        if (block == 0)
#pragma unroll
            for (int i = 0; i < 4; i++)
                load_matrices(fq[i], shared_address(queries) + swizzled(warp * 16 + lane % 16, i * 2 + lane / 16));
        if (block + 1 < blocks) {
            load(keys[(block + 1) % 2], k, (block + 1) * ROWS);
            load(values[(block + 1) % 2], v, (block + 1) * ROWS);
        }
        commit_copies();
        uint32_t from_k = shared_address(keys[block % 2]), from_v = shared_address(values[block % 2]);
        float p[8][4] = {};
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t f[4];
                load_matrices(f, from_k + swizzled(j * 16 + lane % 8 + lane / 16 * 8, i * 2 + lane / 8 % 2));
                mma_bf16(p[2 * j], fq[i], f);
                mma_bf16(p[2 * j + 1], fq[i], f + 2);
            }
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (block * ROWS + j * 8 + lane % 4 * 2 + e % 2 >= tokens) p[j][e] = -INFINITY;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float most = top[h];
#pragma unroll
            for (int j = 0; j < 8; j++) most = fmaxf(most, fmaxf(p[j][2 * h], p[j][2 * h + 1]));
            most = row_max(most);
            float shrink = exp2f((top[h] - most) * scale);
            top[h] = most;
            total[h] *= shrink;
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    sums[j][2 * h + e] *= shrink;
                    p[j][2 * h + e] = exp2f((p[j][2 * h + e] - most) * scale);
                    total[h] += p[j][2 * h + e];
                }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t fp[4] = {pack(p[2 * i][0], p[2 * i][1]), pack(p[2 * i][2], p[2 * i][3]),
                              pack(p[2 * i + 1][0], p[2 * i + 1][1]), pack(p[2 * i + 1][2], p[2 * i + 1][3])};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                uint32_t f[4];
                load_matrices_transposed(f, from_v + swizzled(i * 16 + lane % 16, j * 2 + lane / 16));
                mma_bf16(sums[2 * j], fp, f);
                mma_bf16(sums[2 * j + 1], fp, f + 2);
            }
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float inverse = 1.f / row_sum(total[h]);
        int row = row0 + warp * 16 + lane / 4 + h * 8;
        if (row >= tokens) continue;
#pragma unroll
        for (int j = 0; j < 8; j++)
            *reinterpret_cast<uint32_t*>(out + head + size_t(row) * 64 + j * 8 + lane % 4 * 2) =
                pack(sums[j][2 * h] * inverse, sums[j][2 * h + 1] * inverse);
    }
}
