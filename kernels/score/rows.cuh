// The rows of a data set, as they lie in a store: bytes of pixels, f16 or f32.

#pragma once
#include "../lib/types.cuh"
#include <cuda_fp16.h>

// The twin of src/cpu/score/decode.rs: a pixel u is 2 u / 255 - 1 in f32.
DEVICE double value_of(uint8_t u) { return __fsub_rn(__fdiv_rn(2.0f * u, 255.0f), 1.0f); }
DEVICE double value_of(__half x) { return __half2float(x); }
DEVICE double value_of(float x) { return x; }

// What is known of each row, an array each: the scale of its slice, |x|^2, no less than |x|, no less than |x - x'|.
struct Facts {
    double *scale, *square, *length, *residual;

    DEVICE Facts(double* facts, uint32_t rows)
        : scale(facts), square(facts + rows), length(facts + 2 * size_t(rows)), residual(facts + 3 * size_t(rows)) {}
};

// The sum, or the largest, over the threads of a block of THREADS, in a fixed order and for all of them.
template <int THREADS, class F>
DEVICE double over_block(double x, F join) {
    __shared__ double warps[THREADS / WARP];
    __syncthreads();
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) x = join(x, __shfl_xor_sync(0xffffffffu, x, distance));
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = x;
    __syncthreads();
    x = warps[0];
    for (int warp = 1; warp < THREADS / WARP; warp++) x = join(x, warps[warp]);
    return x;
}

DEVICE double sum(double a, double b) { return a + b; }
DEVICE double largest(double a, double b) { return fmax(a, b); }
