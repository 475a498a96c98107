// The product C = A B of row-major matrices of any extents and either type, sums in f32: the twin of `product` for f32,
// and for widths that 16-byte accesses do not divide.
//
// One CTA of 256 threads computes 64 x 64 of C, 16 terms at a time, a thread 4 x 4. No more than that: it is for tests
// and small ends of a model.

#pragma once
#include "product.cuh"

constexpr int PLAIN_TILE = 64, PLAIN_DEPTH = 16;

// `f(row, column, sum)` is called for every element of the tile that exists. Returns the sum of row `threadIdx.x` of A's
// part of the tile over these terms, for the first 64 threads.
template <Contiguous A, Contiguous B, class T, class F>
DEVICE float plain_product(const T* a, const T* b, uint32_t rows, uint32_t columns, uint32_t terms, uint32_t first,
                           uint32_t last, F f) {
    __shared__ float tile_a[PLAIN_DEPTH][PLAIN_TILE + 4], tile_b[PLAIN_DEPTH][PLAIN_TILE + 4];
    uint32_t across = (columns + PLAIN_TILE - 1) / PLAIN_TILE;
    uint32_t row0 = blockIdx.x / across * PLAIN_TILE, column0 = blockIdx.x % across * PLAIN_TILE;
    uint32_t thread = threadIdx.x, down = thread / 16 * 4, right = thread % 16 * 4;

    // Threads go along what is contiguous in memory.
    auto fill = [&](float (&tile)[PLAIN_DEPTH][PLAIN_TILE + 4], const T* from, bool sum, uint32_t start, uint32_t extent,
                    uint32_t term) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t output = sum ? thread / 16 + i * 16 : thread % 64, k = sum ? thread % 16 : thread / 64 + i * 4;
            bool inside = start + output < extent && term + k < last;
            size_t at = sum ? size_t(start + output) * terms + term + k : size_t(term + k) * extent + start + output;
            tile[k][output] = inside ? to_float(from[at]) : 0.f;
        }
    };

    float sums[4][4] = {}, row_sum = 0;
    for (uint32_t term = first; term < last; term += PLAIN_DEPTH) {
        fill(tile_a, a, A == Contiguous::Sum, row0, rows, term);
        fill(tile_b, b, B == Contiguous::Sum, column0, columns, term);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < PLAIN_DEPTH; k++) {
            float4 x = *reinterpret_cast<float4*>(&tile_a[k][down]), y = *reinterpret_cast<float4*>(&tile_b[k][right]);
            float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sums[i][j] += xs[i] * ys[j];
            if (thread < PLAIN_TILE) row_sum += tile_a[k][thread];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t row = row0 + down + i, column = column0 + right + j;
            if (row < rows && column < columns) f(row, column, sums[i][j]);
        }
    return row_sum;
}
