// The tiles of the products on tensor cores, and which of them a CTA computes.

#pragma once
#include "types.cuh"

// Rows and columns of the output of one CTA and of one of its warps; steps of the sum in flight or in use.
template <int ROWS_, int COLUMNS_, int WARP_ROWS_, int WARP_COLUMNS_, int STAGES_, int CTAS_>
struct Tile {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, WARP_ROWS = WARP_ROWS_, WARP_COLUMNS = WARP_COLUMNS_;
    static constexpr int STAGES = STAGES_, CTAS = CTAS_;
    static constexpr int WARPS_DOWN = ROWS / WARP_ROWS, WARPS_ACROSS = COLUMNS / WARP_COLUMNS;
    static constexpr int THREADS = WARPS_DOWN * WARPS_ACROSS * WARP;
    // Terms of the sum of one stage: 64 bytes of a row.
    static constexpr int DEPTH = 32;
    static constexpr int A_BYTES = ROWS * DEPTH * 2, BYTES = (ROWS + COLUMNS) * DEPTH * 2;
};

// Warps of 64 x 64 take 4 KiB of fragments for 32 products: half of what shared memory delivers meanwhile.
// The large one halves the traffic of level two: 85 flops a byte instead of 64. One CTA fills the registers of an SM.
using Tile256x128 = Tile<256, 128, 64, 64, 4, 1>;
// Two CTAs, so that one's epilogue hides under the other's products.
using Tile128x128 = Tile<128, 128, 64, 64, 4, 2>;
// For few rows, where the product is a stream of weights: 120 KiB of them in flight on an SM.
using Tile32x128 = Tile<32, 128, 32, 32, 5, 3>;

struct Place {
    uint32_t row, column;
};

// The tile of CTA `at` of blockIdx.x: bands of eight rows of tiles, down each column of the band first, so that the CTAs
// that run together share panels of both operands in level two.
template <class TILE>
DEVICE Place place(uint32_t at, uint32_t rows, uint32_t columns) {
    constexpr uint32_t BAND = 8;
    uint32_t down = (rows + TILE::ROWS - 1) / TILE::ROWS, across = (columns + TILE::COLUMNS - 1) / TILE::COLUMNS;
    uint32_t first = at / (BAND * across) * BAND, height = min(BAND, down - first), rest = at % (BAND * across);
    return {first + rest % height, rest / height};
}
