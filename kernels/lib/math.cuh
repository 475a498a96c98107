// Exponentials and what is made of them. Errors are those of the PTX manual's ex2.approx, lg2.approx and rcp.approx.

#pragma once
#include "types.cuh"

constexpr float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

// 2^x to 2 units in the last place; subnormal results are zero.
DEVICE float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// log2(x) to 2^-22, absolute between 1/2 and 2 and relative elsewhere.
DEVICE float log2_approximate(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1/x to one unit in the last place.
DEVICE float reciprocal_approximate(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

struct Gelu {
    float value, slope;
};

// The tanh form of GELU and its derivative: x s and s + x s (1 - s) u'(x), with s = sigmoid(u) and
// u(x) = 2 sqrt(2/pi) (x + 0.044715 x^3). Absolute error below 4e-7 (|x| + 1): no difference cancels.
DEVICE Gelu gelu(float x) {
    constexpr float LINEAR = 1.5957691f, CUBIC = 0.071354816f;
    // Beyond 10 the slope is 0 or 1 to 1e-34, and the exponential stays finite.
    float t = fminf(fmaxf(x, -10.f), 10.f), square = t * t;
    float e = exp2_approximate(-LOG2_E * t * (LINEAR + CUBIC * square));
    float s = reciprocal_approximate(1.f + e);
    return {x * s, s + t * s * (e * s) * (LINEAR + 3.f * CUBIC * square)};
}
