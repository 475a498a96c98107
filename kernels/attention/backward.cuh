// Attention backward on tensor cores, without atomics: for each head, CTAs that own keys and CTAs that own queries.
//
//   owner of keys      S^T = k q^T   dP^T = v do^T   P, dS from them   dv += P^T do   dk += dS^T q   over all queries
//   owner of queries   S = q k^T     dP = do v^T     dS from them      dq += dS k                    over all keys
//
// Seven products where five would do, but sums stay in registers, transposes are never stored, and warps never wait for
// each other except at the ring. The CTAs of one head are neighbours, so that what they share is read from memory once.

#pragma once
#include "../lib/math.cuh"
#include "head.cuh"

constexpr int STREAMED = 64;

// Both roles: rows of `x` and `y` are owned, 64 DOWN of them; rows of `u` and `w` stream by. S = x u^T, dP = y w^T.
template <int WIDTH, int DOWN, bool OWNS_KEYS>
struct Backward {
    static constexpr int OWNED = 64 * DOWN, PITCH = Rows<WIDTH>::PITCH;
    // u and w, then the logarithms and deltas of queries, where they stream.
    static constexpr int STAGE = 2 * STREAMED * PITCH + 2 * STREAMED * 4;

    // dk or dq; dv.
    float ds_sums[DOWN][WIDTH / 8][4] = {};
    float p_sums[OWNS_KEYS ? DOWN : 1][WIDTH / 8][4] = {};
    // Of this lane's rows, where queries are owned: the logarithm of the softmax's sum, to base 2, and delta.
    float lse[DOWN][2], delta[DOWN][2];

    // 32 rows of u and w, of which `left` exist. `statistics` are the logarithms of 64 queries, then their deltas.
    DEVICE void block(uint32_t x, uint32_t u, const float* statistics, float scale, uint32_t left) {
        const uint32_t w = u + STREAMED * PITCH;
        float s[DOWN][4][4] = {};
        uint32_t p[DOWN][2][4];
        multiply_rows<WIDTH, DOWN>(s, Stored<WIDTH, DOWN>(x), u);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t column = j * 8 + threadIdx.x % 4 * 2;
            float2 logs = OWNS_KEYS ? *reinterpret_cast<const float2*>(statistics + column) : float2{};
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    float log = OWNS_KEYS ? (e % 2 ? logs.y : logs.x) : lse[i][e / 2];
                    s[i][j][e] = exp2_approximate(s[i][j][e] * scale - log);
                }
        }
        // Keys that do not exist; queries that do not have an infinite logarithm.
        if (!OWNS_KEYS && left < 32)
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        if (j * 8 + threadIdx.x % 4 * 2 + e % 2 >= left) s[i][j][e] = 0;
        // Rounded here, not only as a factor: half the registers, and o was made of the same rounded weights.
#pragma unroll
        for (int i = 0; i < DOWN; i++) pack_terms(p[i], s[i]);
        if constexpr (OWNS_KEYS) multiply_columns<WIDTH, DOWN>(p_sums, p, w);
        float dp[DOWN][4][4] = {};
        multiply_rows<WIDTH, DOWN>(dp, Stored<WIDTH, DOWN>(x + OWNED * PITCH), w);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t column = STREAMED + j * 8 + threadIdx.x % 4 * 2;
            float2 deltas = OWNS_KEYS ? *reinterpret_cast<const float2*>(statistics + column) : float2{};
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    uint32_t& pair = p[i][j / 2][j % 2 * 2 + half];
                    float2 weight = unpack_bf16(pair), d = OWNS_KEYS ? deltas : float2{delta[i][half], delta[i][half]};
                    pair = pack_bf16(weight.x * (dp[i][j][2 * half] - d.x), weight.y * (dp[i][j][2 * half + 1] - d.y));
                }
        }
        multiply_columns<WIDTH, DOWN>(ds_sums, p, u);
    }

    // Rows `first` and on.
    DEVICE void run(const bf16* qkv, const bf16* dout, const float* lses, const float* deltas, bf16* dqkv, uint32_t first,
                    uint32_t tokens, float scale) {
        uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
        Head<const bf16> q(qkv, tokens, WIDTH, 0, 3), k(qkv, tokens, WIDTH, 1, 3);
        Head<const bf16> v(qkv, tokens, WIDTH, 2, 3), d(dout, tokens, WIDTH, 0, 1);
        uint8_t* memory = dynamic_shared();
        uint32_t x = shared_address(memory), ring = x + 2 * OWNED * PITCH;
        auto statistics = [&](uint32_t stage) {
            return reinterpret_cast<float*>(memory + 2 * (OWNED + STREAMED) * PITCH + stage);
        };
        auto copy = [&](uint32_t stage, uint32_t row) {
            Rows<WIDTH>::template copy<STREAMED>(ring + stage, OWNS_KEYS ? q : k, row, tokens);
            Rows<WIDTH>::template copy<STREAMED>(ring + stage + STREAMED * PITCH, OWNS_KEYS ? d : v, row, tokens);
            if (OWNS_KEYS && threadIdx.x < STREAMED) {
                // Of queries that do not exist every weight is zero.
                uint32_t n = row + threadIdx.x, at = statistics_of(tokens) + n;
                statistics(stage)[threadIdx.x] = n < tokens ? lses[at] * LOG2_E : INFINITY;
                statistics(stage)[STREAMED + threadIdx.x] = n < tokens ? deltas[at] : 0.f;
            }
        };

        Rows<WIDTH>::template copy<OWNED>(x, OWNS_KEYS ? k : q, first, tokens);
        Rows<WIDTH>::template copy<OWNED>(x + OWNED * PITCH, OWNS_KEYS ? v : d, first, tokens);
        copy(0, 0);
        commit_copies();
        uint32_t own = first + warp * 16 * DOWN, stage = 0;
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint32_t n = own + i * 16 + half * 8 + lane / 4;
                bool exists = !OWNS_KEYS && n < tokens;
                lse[i][half] = exists ? lses[statistics_of(tokens) + n] * LOG2_E : INFINITY;
                delta[i][half] = exists ? deltas[statistics_of(tokens) + n] : 0.f;
            }
        x += warp * 16 * DOWN * PITCH;
        for (uint32_t row = 0; row < tokens; row += STREAMED) {
            wait_copies<0>();
            __syncthreads();
            if (row + STREAMED < tokens) copy(stage ^ STAGE, row + STREAMED);
            commit_copies();
            if (own < tokens)
#pragma unroll 1
                for (uint32_t half = 0; half < STREAMED && row + half < tokens; half += 32)
                    block(x, ring + stage + half * PITCH, statistics(stage) + half, scale * LOG2_E, tokens - row - half);
            stage ^= STAGE;
        }
        if (own >= tokens) return;
        Head<bf16> to(dqkv, tokens, WIDTH, OWNS_KEYS ? 1 : 0, 3);
        Head<bf16> dv(dqkv, tokens, WIDTH, 2, 3);
#pragma unroll
        for (int i = 0; i < DOWN; i++) {
            uint32_t n = own + i * 16 + lane / 4;
            store_rows<WIDTH>(to, n, tokens, ds_sums[i], scale, scale);
            if constexpr (OWNS_KEYS) store_rows<WIDTH>(dv, n, tokens, p_sums[i], 1.f, 1.f);
        }
    }
};

template <int WIDTH, int DOWN>
DEVICE void backward(const bf16* qkv, const bf16* dout, const float* lse, const float* delta, bf16* dqkv, uint32_t tokens,
                     float scale) {
    uint32_t blocks = gridDim.x / 2;
    if (blockIdx.x < blocks)
        Backward<WIDTH, DOWN, true>().run(qkv, dout, lse, delta, dqkv, blockIdx.x * 64 * DOWN, tokens, scale);
    else
        Backward<WIDTH, DOWN, false>().run(qkv, dout, lse, delta, dqkv, (blockIdx.x - blocks) * 64 * DOWN, tokens, scale);
}
