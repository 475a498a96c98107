// Attention forward on tensor cores: one CTA of four warps takes 64 DOWN queries of one head through all keys.
//
// A warp keeps 16 DOWN rows of sums and their softmax statistics in registers; blocks of 64 keys and values come by
// cp.async, one ahead. Two rows of fragments (DOWN 2) make each fragment of keys and values serve twice.

#pragma once
#include "../lib/math.cuh"
#include "head.cuh"

constexpr int KEYS = 64;

template <int WIDTH, int DOWN>
struct Forward {
    static constexpr int QUERIES = 64 * DOWN, PITCH = Rows<WIDTH>::PITCH;
    static constexpr int STAGE = 2 * KEYS * PITCH;

    float o[DOWN][WIDTH / 8][4] = {};
    Softmax rows[DOWN][2];

    // Goes on by 64 keys, of which `left` exist.
    DEVICE void block(const Loaded<WIDTH, DOWN>& queries, uint32_t keys, uint32_t values, float scale, uint32_t left) {
        float s[2][DOWN][4][4] = {};
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (h == 0 || left > 32) multiply_rows<WIDTH, DOWN>(s[h], queries, keys + h * 32 * PITCH);
        if (left < KEYS)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int i = 0; i < DOWN; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            if (h * 32 + j * 8 + threadIdx.x % 4 * 2 + e % 2 >= left) s[h][i][j][e] = -INFINITY;
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                Softmax& row = rows[i][half];
                float top = row.top;
#pragma unroll
                for (int h = 0; h < 2; h++)
#pragma unroll
                    for (int j = 0; j < 4; j++) top = fmaxf(top, fmaxf(s[h][i][j][2 * half], s[h][i][j][2 * half + 1]));
                top = quad_max(top);
                float shrink = exp2_approximate((row.top - top) * scale), shift = top * scale;
                row.top = top;
                float total = 0;
#pragma unroll
                for (int h = 0; h < 2; h++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
#pragma unroll
                        for (int e = 2 * half; e < 2 * half + 2; e++) {
                            s[h][i][j][e] = exp2_approximate(s[h][i][j][e] * scale - shift);
                            total += s[h][i][j][e];
                        }
                row.total = row.total * shrink + total;
#pragma unroll
                for (int j = 0; j < WIDTH / 8; j++) o[i][j][2 * half] *= shrink, o[i][j][2 * half + 1] *= shrink;
            }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t p[DOWN][2][4];
#pragma unroll
            for (int i = 0; i < DOWN; i++) pack_terms(p[i], s[h][i]);
            if (h == 0 || left > 32) multiply_columns<WIDTH, DOWN>(o, p, values + h * 32 * PITCH);
        }
    }

    DEVICE void run(const bf16* qkv, bf16* out, float* lse, uint32_t tokens, float scale) {
        uint32_t first = blockIdx.x * QUERIES, warp = threadIdx.x / WARP;
        Head<const bf16> q(qkv, tokens, WIDTH, 0, 3), k(qkv, tokens, WIDTH, 1, 3);
        Head<const bf16> v(qkv, tokens, WIDTH, 2, 3);
        uint32_t queries = shared_address(dynamic_shared()), ring = queries + QUERIES * PITCH;
        auto copy = [&](uint32_t stage, uint32_t key) {
            Rows<WIDTH>::template copy<KEYS>(stage, k, key, tokens);
            Rows<WIDTH>::template copy<KEYS>(stage + KEYS * PITCH, v, key, tokens);
        };

        Rows<WIDTH>::template copy<QUERIES>(queries, q, first, tokens);
        copy(ring, 0);
        commit_copies();
        Loaded<WIDTH, DOWN> loaded;
        uint32_t own = first + warp * 16 * DOWN, stage = 0;
        for (uint32_t key = 0; key < tokens; key += KEYS) {
            // This block has landed, and all warps are through with the one whose place the next takes.
            wait_copies<0>();
            __syncthreads();
            if (key == 0) loaded.load(queries + warp * 16 * DOWN * PITCH);
            if (key + KEYS < tokens) copy(ring + (stage ^ STAGE), key + KEYS);
            commit_copies();
            if (own < tokens)
                block(loaded, ring + stage, ring + stage + KEYS * PITCH, scale * LOG2_E, tokens - key);
            stage ^= STAGE;
        }
        if (own >= tokens) return;
        Head<bf16> to(out, tokens, WIDTH, 0, 1);
#pragma unroll
        for (int i = 0; i < DOWN; i++) {
            float factor[2];
            uint32_t row = own + i * 16 + threadIdx.x % WARP / 4;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float total = quad_sum(rows[i][half].total);
                factor[half] = reciprocal_approximate(total);
                if (threadIdx.x % 4 == 0 && row + half * 8 < tokens)
                    lse[statistics_of(tokens) + row + half * 8] = rows[i][half].top * scale + LN_2 * log2_approximate(total);
            }
            store_rows<WIDTH>(to, row, tokens, o[i], factor[0], factor[1]);
        }
    }
};
