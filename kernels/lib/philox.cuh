// Random numbers as a pure function of what they are for: the twin of src/base/rng.rs, to the bit.
//
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, 2011) with the key (seed) and the counter (block, sample, step, purpose). The
// logarithm, sine and cosine are made of fused multiply-adds, square root and division, which every device rounds alike; no
// product here may be contracted with a sum that is not written as one.
#pragma once
#include <cstdint>

enum Purpose : uint32_t { NOISE = 2, LABEL_DROPOUT = 3, TOKEN_MASK = 4, LOSS_MASK = 5, SAMPLING = 15 };

struct Stream {
    uint64_t seed;
    uint32_t sample, step;
    Purpose purpose;

    // Four independent words.
    __device__ uint4 words(uint32_t block) const {
        uint4 c = {block, sample, step, purpose};
        uint2 k = {uint32_t(seed), uint32_t(seed >> 32)};
        for (int round = 0; round < 10; round++) {
            const uint64_t a = uint64_t(c.x) * 0xD2511F53u, b = uint64_t(c.z) * 0xCD9E8D57u;
            c = {uint32_t(b >> 32) ^ c.y ^ k.x, uint32_t(b), uint32_t(a >> 32) ^ c.w ^ k.y, uint32_t(a)};
            k.x += 0x9E3779B9u;
            k.y += 0xBB67AE85u;
        }
        return c;
    }

    // Four standard normals.
    __device__ float4 normals(uint32_t block) const;
};

// The upper 23 bits of a word, and a half, as a fraction of (0, 1): exact.
__device__ inline float uniform(uint32_t word) { return (float(word >> 9) + 0.5f) * (1.0f / 8388608.0f); }

// ln x = e ln 2 + 2 atanh((m - 1) / (m + 1)) for x = 2^e m, within two units in the last place.
__device__ inline float logarithm(float x) {
    const uint32_t bits = __float_as_uint(x);
    int exponent = int(bits >> 23) - 127;
    float m = __uint_as_float((bits & 0x007FFFFFu) | 0x3F800000u);
    if (m >= 1.41421356f) {
        m *= 0.5f;
        exponent += 1;
    }
    const float s = __fdiv_rn(m - 1.0f, m + 1.0f), z = __fmul_rn(s, s);
    float series = 2.0f / 11.0f;
    series = __fmaf_rn(series, z, 2.0f / 9.0f);
    series = __fmaf_rn(series, z, 2.0f / 7.0f);
    series = __fmaf_rn(series, z, 2.0f / 5.0f);
    series = __fmaf_rn(series, z, 2.0f / 3.0f);
    const float tail = __fmul_rn(__fmul_rn(s, z), series);
    return __fmaf_rn(float(exponent), 0.693147182f, __fmaf_rn(s, 2.0f, tail));
}

// (sin, cos) of word / 2^32 turns: the three upper bits choose the octant, the rest is folded into an eighth of a turn.
__device__ inline float2 sin_cos_turns(uint32_t word) {
    const uint32_t octant = word >> 29, fraction = (word >> 8) & 0x1FFFFFu;
    const uint32_t folded = octant & 1 ? 0x200000u - fraction : fraction;
    const float a = __fmul_rn(float(folded), 0.785398185f / 2097152.0f), z = __fmul_rn(a, a);
    float sin = 1.0f / 362880.0f;
    sin = __fmaf_rn(sin, z, -1.0f / 5040.0f);
    sin = __fmaf_rn(sin, z, 1.0f / 120.0f);
    sin = __fmaf_rn(sin, z, -1.0f / 6.0f);
    sin = __fmaf_rn(__fmul_rn(sin, z), a, a);
    float cos = -1.0f / 3628800.0f;
    cos = __fmaf_rn(cos, z, 1.0f / 40320.0f);
    cos = __fmaf_rn(cos, z, -1.0f / 720.0f);
    cos = __fmaf_rn(cos, z, 1.0f / 24.0f);
    cos = __fmaf_rn(cos, z, -0.5f);
    cos = __fmaf_rn(cos, z, 1.0f);
    const bool swap = (octant & 3) == 1 || (octant & 3) == 2;
    const float s = swap ? cos : sin, c = swap ? sin : cos;
    return {octant >= 4 ? -s : s, octant >= 2 && octant <= 5 ? -c : c};
}

// sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v).
__device__ inline float2 box_muller(uint32_t u, uint32_t v) {
    const float radius = __fsqrt_rn(__fmul_rn(-2.0f, logarithm(uniform(u))));
    const float2 turn = sin_cos_turns(v);
    return {__fmul_rn(radius, turn.y), __fmul_rn(radius, turn.x)};
}

__device__ inline float4 Stream::normals(uint32_t block) const {
    const uint4 word = words(block);
    const float2 a = box_muller(word.x, word.y), b = box_muller(word.z, word.w);
    return {a.x, a.y, b.x, b.y};
}
