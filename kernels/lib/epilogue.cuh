// What is done with a warp's finished sums: rows of bf16 by 16 bytes, rows of f32 by sectors.

#pragma once
#include "product.cuh"

// Where in the output a warp's sums lie.
template <class TILE>
struct Corner {
    uint32_t row, column;

    DEVICE explicit Corner(Place tile) {
        uint32_t warp = threadIdx.x / WARP;
        row = tile.row * TILE::ROWS + warp % TILE::WARPS_DOWN * TILE::WARP_ROWS;
        column = tile.column * TILE::COLUMNS + warp / TILE::WARPS_DOWN * TILE::WARP_COLUMNS;
    }
    // Of block `i` down and fragment `j` across: this lane's first row and its two columns.
    DEVICE uint32_t row_of(int i, int half) const { return row + i * 16 + half * 8 + threadIdx.x % WARP / 4; }
    DEVICE uint32_t column_of(int j) const { return column + j * 8 + threadIdx.x % 4 * 2; }
    // Of four fragments from `j` on, once transposed: eight columns of one of them.
    DEVICE uint32_t chunk_of(int j) const { return column + (j + threadIdx.x % 4) * 8; }
};

// Eight values of a row, transposed to the fragments' order; zeros outside.
DEVICE void load_row(uint32_t (&w)[4], const bf16* from, bool inside) {
    uint4 v = inside ? *reinterpret_cast<const uint4*>(from) : uint4{};
    w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
    transpose_quad(w);
}

DEVICE void store_row(bf16* to, uint32_t (&w)[4], bool inside) {
    transpose_quad(w);
    if (inside) *reinterpret_cast<uint4*>(to) = {w[0], w[1], w[2], w[3]};
}

// The bias of the warp's columns, each lane its own; zeros where there is none (null).
template <class TILE>
struct Bias {
    float2 at[TILE::WARP_COLUMNS / 8];

    DEVICE Bias(const bf16* bias, const Corner<TILE>& corner, uint32_t columns) {
#pragma unroll
        for (int j = 0; j < TILE::WARP_COLUMNS / 8; j++) {
            uint32_t column = corner.column_of(j);
            at[j] = unpack_bf16(bias && column < columns ? *reinterpret_cast<const uint32_t*>(bias + column) : 0);
        }
    }
};

// Calls `f(i, half, j, at, inside)` for each run of four fragments: `at` is where this lane's 16 bytes lie in the output.
// Every lane takes part, since transpositions need all of them.
template <class TILE, class F>
DEVICE void for_each_row(const Corner<TILE>& corner, uint32_t rows, uint32_t columns, F f) {
#pragma unroll
    for (int i = 0; i < TILE::WARP_ROWS / 16; i++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int j = 0; j < TILE::WARP_COLUMNS / 8; j += 4) {
                uint32_t row = corner.row_of(i, half), column = corner.chunk_of(j);
                f(i, half, j, size_t(row) * columns + column, row < rows && column < columns);
            }
}

// out = sums + bias
template <class TILE>
DEVICE void store_bias(const Sums<TILE>& sums, Place tile, const bf16* bias, bf16* out, uint32_t rows, uint32_t columns) {
    Corner<TILE> corner(tile);
    Bias<TILE> b(bias, corner, columns);
    for_each_row(corner, rows, columns, [&](int i, int half, int j, size_t at, bool inside) {
        uint32_t w[4];
#pragma unroll
        for (int f = 0; f < 4; f++) {
            const float* s = sums.at[i][j + f] + 2 * half;
            w[f] = pack_bf16(s[0] + b.at[j + f].x, s[1] + b.at[j + f].y);
        }
        store_row(out + at, w, inside);
    });
}

// out = sums, or out += sums
template <class TILE>
DEVICE void store(const Sums<TILE>& sums, Place tile, bf16* out, uint32_t rows, uint32_t columns, bool add) {
    Corner<TILE> corner(tile);
    for_each_row(corner, rows, columns, [&](int i, int half, int j, size_t at, bool inside) {
        uint32_t w[4] = {};
        if (add) load_row(w, out + at, inside);
#pragma unroll
        for (int f = 0; f < 4; f++) {
            const float* s = sums.at[i][j + f] + 2 * half;
            float2 old = unpack_bf16(w[f]);
            w[f] = pack_bf16(old.x + s[0], old.y + s[1]);
        }
        store_row(out + at, w, inside);
    });
}

// The same in f32: the four lanes of a row of a fragment write one sector.
template <class TILE>
DEVICE void store(const Sums<TILE>& sums, Place tile, float* out, uint32_t rows, uint32_t columns, bool add) {
    Corner<TILE> corner(tile);
#pragma unroll
    for (int i = 0; i < TILE::WARP_ROWS / 16; i++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int j = 0; j < TILE::WARP_COLUMNS / 8; j++) {
                uint32_t row = corner.row_of(i, half), column = corner.column_of(j);
                if (row >= rows || column >= columns) continue;
                float2* to = reinterpret_cast<float2*>(out + size_t(row) * columns + column);
                const float* s = sums.at[i][j] + 2 * half;
                float2 old = add ? *to : float2{};
                *to = {old.x + s[0], old.y + s[1]};
            }
}

// Stores the sums of rows: one value for each row of the tile, from this CTA's share of the terms.
template <class TILE>
DEVICE void store_row_sums(const RowSums<TILE>& sums, Place tile, float* out, uint32_t rows) {
    float* shared = reinterpret_cast<float*>(dynamic_shared());
    uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    __syncthreads();
    if (lane % 4 == 0)
#pragma unroll
        for (int i = 0; i < TILE::WARP_ROWS / 16; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint32_t row = warp % TILE::WARPS_DOWN * TILE::WARP_ROWS + i * 16 + half * 8 + lane / 4;
                shared[warp / TILE::WARPS_DOWN * TILE::ROWS + row] = sums.at[i][2 * half];
            }
    __syncthreads();
    uint32_t row = tile.row * TILE::ROWS + threadIdx.x;
    if (threadIdx.x < TILE::ROWS && row < rows) out[row] = shared[threadIdx.x] + shared[TILE::ROWS + threadIdx.x];
}
