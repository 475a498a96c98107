// Attention of any head width up to 256 and either type: one warp for each row, a lane every 32nd element of the width.
// The twin of the kernels on tensor cores, for f32 and for the widths they do not take.

#pragma once
#include "../lib/math.cuh"
#include "../lib/reduce.cuh"
#include "head.cuh"

constexpr int LANE_ELEMENTS = 256 / WARP;

// A lane's elements of a row; zeros beyond the width.
struct LaneRow {
    float at[LANE_ELEMENTS] = {};

    template <class T>
    DEVICE static LaneRow load(const T* row, uint32_t width) {
        LaneRow r;
#pragma unroll
        for (int i = 0; i < LANE_ELEMENTS; i++) {
            uint32_t k = i * WARP + threadIdx.x % WARP;
            if (k < width) r.at[i] = to_float(row[k]);
        }
        return r;
    }
    template <class T>
    DEVICE void store(T* row, uint32_t width, float factor) const {
#pragma unroll
        for (int i = 0; i < LANE_ELEMENTS; i++) {
            uint32_t k = i * WARP + threadIdx.x % WARP;
            if (k < width) row[k] = from_float<T>(at[i] * factor);
        }
    }
    DEVICE float dot(const LaneRow& other) const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < LANE_ELEMENTS; i++) sum += at[i] * other.at[i];
        return warp_sum(sum);
    }
    // this = this * shrink + other * factor
    DEVICE void update(float shrink, const LaneRow& other, float factor) {
#pragma unroll
        for (int i = 0; i < LANE_ELEMENTS; i++) at[i] = at[i] * shrink + other.at[i] * factor;
    }
};

template <class T>
DEVICE void plain_forward(const T* qkv, T* out, float* lse, uint32_t tokens, uint32_t width, float scale) {
    uint32_t n = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    if (n >= tokens) return;
    Head<const T> k(qkv, tokens, width, 1, 3), v(qkv, tokens, width, 2, 3);
    LaneRow q = LaneRow::load(Head<const T>(qkv, tokens, width, 0, 3).row(n), width), o;
    float top = -INFINITY, total = 0;
    for (uint32_t m = 0; m < tokens; m++) {
        float score = q.dot(LaneRow::load(k.row(m), width)) * scale, next = fmaxf(top, score);
        float shrink = expf(top - next), p = expf(score - next);
        total = total * shrink + p, top = next;
        o.update(shrink, LaneRow::load(v.row(m), width), p);
    }
    o.store(Head<T>(out, tokens, width, 0, 1).row(n), width, 1.f / total);
    if (threadIdx.x % WARP == 0) lse[statistics_of(tokens) + n] = top + logf(total);
}

template <class T>
DEVICE void plain_backward(const T* qkv, const T* dout, const float* lse, const float* delta, T* dqkv, uint32_t tokens,
                           uint32_t width, float scale) {
    // The first half of the grid owns keys.
    uint32_t warp = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, half = gridDim.x / 2 * (blockDim.x / WARP);
    bool owns_key = warp < half;
    uint32_t n = owns_key ? warp : warp - half;
    if (n >= tokens) return;
    Head<const T> q(qkv, tokens, width, 0, 3), k(qkv, tokens, width, 1, 3);
    Head<const T> v(qkv, tokens, width, 2, 3), d(dout, tokens, width, 0, 1);
    lse += statistics_of(tokens), delta += statistics_of(tokens);
    LaneRow x = LaneRow::load((owns_key ? k : q).row(n), width), y = LaneRow::load((owns_key ? v : d).row(n), width);
    LaneRow ds_sum, p_sum;
    for (uint32_t m = 0; m < tokens; m++) {
        LaneRow u = LaneRow::load((owns_key ? q : k).row(m), width), w = LaneRow::load((owns_key ? d : v).row(m), width);
        uint32_t query = owns_key ? m : n;
        float p = expf(x.dot(u) * scale - lse[query]);
        p_sum.update(1.f, w, p);
        ds_sum.update(1.f, u, p * (y.dot(w) - delta[query]));
    }
    ds_sum.store(Head<T>(dqkv, tokens, width, owns_key ? 1 : 0, 3).row(n), width, scale);
    if (owns_key) p_sum.store(Head<T>(dqkv, tokens, width, 2, 3).row(n), width, 1.f);
}
