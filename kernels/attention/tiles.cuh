// Tiles of heads on Hopper: rows in shared memory as the copy engine leaves them and as wgmma reads them, without padding.

#pragma once
#include "../lib/hopper.cuh"
#include "../lib/wgmma.cuh"
#include "head.cuh"

// ROWS rows of a head: panels of 64 columns, then one of the columns that are left.
//
// A width of 8 (2 n + 1) leaves 8 columns, in rows of 16 bytes: half of the terms of a product. The other half are zeros where
// the tile is a left factor, anything finite where it is a right one.
template <int WIDTH, int ROWS>
struct Tile {
    static constexpr int PANELS = WIDTH / 64, REST = WIDTH % 64, BYTES = ROWS * WIDTH * 2;
    static constexpr int PANEL = ROWS * 128, REST_AT = PANELS * PANEL, PITCH = REST * 2;
    static_assert(REST == 0 || REST == 8 || REST == 16 || REST == 32);

    // Rows `row` and on of an image, from `column` on.
    DEVICE static void copy(uint32_t to, const CUtensorMap& panels, const CUtensorMap& rest, uint32_t barrier, uint32_t column,
                            uint32_t row, uint32_t image) {
#pragma unroll
        for (int panel = 0; panel < PANELS; panel++)
            copy_box(to + panel * PANEL, panels, barrier, column + panel * 64, row, image);
        if (REST) copy_box(to + REST_AT, rest, barrier, column + PANELS * 64, row, image);
    }
};

// s = X U^T for 64 rows of X and as many of U as s has columns, from row `row` and `first` of their tiles on; `zeros` are 64 rows
// of 16 bytes.
template <int WIDTH, int ROWS, int FRAGMENTS>
DEVICE void multiply_rows(float (&s)[FRAGMENTS][4], uint32_t x, uint32_t row, uint32_t u, uint32_t first, uint32_t zeros) {
    using T = Tile<WIDTH, ROWS>;
#pragma unroll
    for (int panel = 0; panel < T::PANELS; panel++) {
        uint64_t a = describe<128>(x + panel * T::PANEL + row * 128, 0);
        uint64_t b = describe<128>(u + panel * T::PANEL + first * 128, 0);
#pragma unroll
        for (int k = 0; k < 4; k++) wgmma<false, false>(s, a + 2 * k, b + 2 * k, panel || k);
    }
    uint32_t a = x + T::REST_AT + row * T::PITCH, b = u + T::REST_AT + first * T::PITCH;
    if constexpr (T::REST == 8) {
        wgmma<false, false>(s, describe<16>(a, zeros - a), describe<16>(b, 0), T::PANELS);
    } else if constexpr (T::REST > 0) {
#pragma unroll
        for (int k = 0; k < T::REST / 16; k++)
            wgmma<false, false>(s, describe<T::PITCH>(a, 0) + 2 * k, describe<T::PITCH>(b, 0) + 2 * k, T::PANELS || k);
    }
}

// The sums of 64 rows of a head.
template <int WIDTH>
struct HeadSums {
    static constexpr int PANELS = WIDTH / 64, REST = WIDTH % 64;
    float panels[PANELS ? PANELS : 1][8][4], rest[REST ? REST / 8 : 1][4];

    DEVICE float& at(int j, int e) { return j < PANELS * 8 ? panels[j / 8][j % 8][e] : rest[j - PANELS * 8][e]; }
};

// o += P W for P of 64 x 16, rounded and packed, and rows `row` to `row` + 15 of W; or o = P W where not `add`.
template <int WIDTH, int ROWS>
DEVICE void multiply_columns(HeadSums<WIDTH>& o, const uint32_t (&p)[4], uint32_t w, uint32_t row, bool add) {
    using W = Tile<WIDTH, ROWS>;
#pragma unroll
    for (int panel = 0; panel < W::PANELS; panel++)
        wgmma(o.panels[panel], p, describe<128>(w + panel * W::PANEL + row * 128, 0), add);
    // Rows of 16 bytes make groups of eight 128 bytes apart, which then is the distance of terms.
    if constexpr (W::REST > 0) wgmma(o.rest, p, describe<W::PITCH>(w + W::REST_AT + row * W::PITCH, 128), add);
}

// Rows `row` and `row + 8` of this lane's sums, times a factor each.
template <int WIDTH>
DEVICE void store_sums(const Head<bf16>& to, uint32_t row, uint32_t rows, const HeadSums<WIDTH>& sums, float first,
                       float second) {
    float o[WIDTH / 8][4];
#pragma unroll
    for (int j = 0; j < WIDTH / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            o[j][e] = j < WIDTH / 64 * 8 ? sums.panels[j / 8][j % 8][e] : sums.rest[j - WIDTH / 64 * 8][e];
    store_rows<WIDTH>(to, row, rows, o, first, second);
}
