// The product C = A B of row-major bf16 matrices on tensor cores: sums of one tile in registers.
//
// A and B are read by 16 bytes, so the extent that is contiguous in memory must be a multiple of 8. Stages of 32 terms go
// through a ring in shared memory by cp.async; fragments of the next 16 terms are loaded while these 16 multiply.

#pragma once
#include "copy.cuh"
#include "mma.cuh"
#include "tile.cuh"
#include <type_traits>

// Which index of an operand is contiguous in memory: that of the sum, or that of the output.
enum class Contiguous { Sum, Output };

// One operand's part of a stage: EXTENT rows (or columns) of the output times 32 terms.
//
// `Sum`: EXTENT rows of 64 bytes, chunk c of row r at c ^ (r / 2 % 4). `Output`: 32 rows of EXTENT elements, chunk c of row
// r at c ^ (r % 8). Either way the eight rows of an ldmatrix lie in eight different groups of four banks.
template <int EXTENT, int THREADS, Contiguous LAYOUT>
struct Operand {
    static constexpr bool SUM = LAYOUT == Contiguous::Sum;
    static constexpr int CHUNKS = SUM ? 4 : EXTENT / 8, PITCH = CHUNKS * 16;
    static constexpr int COPIES = EXTENT * 4 / THREADS, STRIDE = THREADS / CHUNKS;
    static_assert(STRIDE % 8 == 0, "every copy of a thread has the same swizzle");
    static_assert(SUM || CHUNKS % 8 == 0, "a row has room for the swizzle");

    const uint8_t* from;
    // From `from` to this thread's first copy, and for `Sum` to the others, which are clamped to the last row: what is
    // computed beyond it is not stored.
    uint32_t offset[SUM ? COPIES : 1];
    uint32_t pitch, first, to;

    // `start`: the first row or column of the output; `extent` of them exist. `term`: the first of the sum.
    DEVICE Operand(const bf16* matrix, uint32_t start, uint32_t extent, uint32_t width, uint32_t term) {
        uint32_t row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        pitch = width * 2;
        if constexpr (SUM) {
            from = reinterpret_cast<const uint8_t*>(matrix + size_t(start) * width + term);
#pragma unroll
            for (int i = 0; i < COPIES; i++) offset[i] = min(row + i * STRIDE, extent - 1 - start) * pitch + chunk * 16;
            first = chunk * 8;
            to = row * PITCH + ((chunk ^ (row >> 1 & 3)) << 4);
        } else {
            from = reinterpret_cast<const uint8_t*>(matrix + size_t(term) * width + start);
            offset[0] = row * pitch + min(chunk * 16, (extent - start) * 2 - 16);
            first = row;
            to = row * PITCH + ((chunk ^ (row & 7)) << 4);
        }
    }

    // Copies the next stage, of which `left` terms exist; the others become zeros.
    DEVICE void copy(uint32_t stage, int left) {
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            if constexpr (SUM)
                copy16(stage + to + i * STRIDE * PITCH, from + offset[i], int(first) < left);
            else
                copy16(stage + to + i * STRIDE * PITCH, from + offset[0] + i * STRIDE * pitch,
                       int(first + i * STRIDE) < left);
        }
        from += SUM ? 64 : size_t(32) * pitch;
    }
};

// Addresses of one warp's fragments within its operand's part of a stage, for 16 x 16 blocks along the output.
template <int EXTENT, Contiguous LAYOUT, bool IS_A>
struct Fragments {
    static constexpr bool SUM = LAYOUT == Contiguous::Sum;
    static constexpr int PITCH = SUM ? 64 : EXTENT * 2;
    uint32_t row, chunk;

    // The halves of a block come in the order that mma wants: of A, output before terms; of B, terms before output.
    DEVICE explicit Fragments(uint32_t start) {
        uint32_t lane = threadIdx.x % WARP, low = lane / 8 % 2, high = lane / 16;
        uint32_t output = IS_A ? low : high, term = IS_A ? high : low;
        if (SUM) {
            uint32_t r = start + lane % 8 + output * 8;
            row = r * PITCH, chunk = (term ^ (r >> 1 & 3)) << 4;
        } else {
            uint32_t r = lane % 8 + term * 8;
            row = r * PITCH, chunk = ((start / 8 + output) ^ (r & 7)) << 4;
        }
    }

    // Block `i` along the output, terms 16 `half` and on.
    DEVICE void load(uint32_t (&r)[4], uint32_t part, int i, int half) const {
        if (SUM)
            load_matrices(r, part + row + i * 16 * PITCH + (chunk ^ half << 5));
        else
            load_matrices_transposed(r, part + row + half * 16 * PITCH + (chunk ^ i << 5));
    }
};

// The sums of one warp: 16 x 8 fragments down and across.
template <class TILE, class T = float>
struct Sums {
    static constexpr int DOWN = TILE::WARP_ROWS / 16, ACROSS = TILE::WARP_COLUMNS / 8;
    T at[DOWN][ACROSS][4] = {};
};

// Sums of the rows of A by a product with ones, on the same fragments. A CTA takes every `parts`-th stage, the first after
// `wait` others, and a warp the half of a stage that is its own: with another `wait` below `parts` each, the CTAs of one row
// of tiles cover every term once.
template <class TILE>
struct RowSums {
    static_assert(TILE::WARPS_ACROSS == 2);
    float at[TILE::WARP_ROWS / 16][4] = {};
    uint32_t parts, wait;
};

struct NoRowSums {};

// sums += A B over terms `first` to `last`; the tile's first row and column are `row` and `column`. With sums of int32_t a
// term is two neighbouring bytes, unsigned in A and signed in B.
template <class TILE, Contiguous A, Contiguous B, class ROW_SUMS, class T>
DEVICE void product(Sums<TILE, T>& sums, ROW_SUMS& row_sums, const bf16* a, const bf16* b, uint32_t row, uint32_t column,
                    uint32_t rows, uint32_t columns, uint32_t terms, uint32_t first, uint32_t last) {
    constexpr int DOWN = TILE::WARP_ROWS / 16, PAIRS = TILE::WARP_COLUMNS / 16, STAGES = TILE::STAGES;
    Operand<TILE::ROWS, TILE::THREADS, A> from_a(a, row, rows, A == Contiguous::Sum ? terms : rows, first);
    Operand<TILE::COLUMNS, TILE::THREADS, B> from_b(b, column, columns, B == Contiguous::Sum ? terms : columns, first);
    uint32_t warp = threadIdx.x / WARP;
    Fragments<TILE::ROWS, A, true> fragments_a(warp % TILE::WARPS_DOWN * TILE::WARP_ROWS);
    Fragments<TILE::COLUMNS, B, false> fragments_b(warp / TILE::WARPS_DOWN * TILE::WARP_COLUMNS);

    uint32_t ring = shared_address(dynamic_shared()), write = ring, read = ring;
    auto next = [&](uint32_t& stage) { stage = stage == ring + (STAGES - 1) * TILE::BYTES ? ring : stage + TILE::BYTES; };
    int left = int(last - first), steps = (left + TILE::DEPTH - 1) / TILE::DEPTH;
    auto copy = [&] {
        if (left > 0) {
            from_a.copy(write, left);
            from_b.copy(write + TILE::A_BYTES, left);
        }
        commit_copies();
        left -= TILE::DEPTH;
        next(write);
    };

    uint32_t fa[2][DOWN][4], fb[2][PAIRS][4];
    auto load = [&](int half) {
#pragma unroll
        for (int i = 0; i < DOWN; i++) fragments_a.load(fa[half][i], read, i, half);
#pragma unroll
        for (int j = 0; j < PAIRS; j++) fragments_b.load(fb[half][j], read + TILE::A_BYTES, j, half);
    };

#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) copy();
    wait_copies<STAGES - 2>();
    __syncthreads();
    if (steps > 0) load(0);
    for (int step = 0; step < steps; step++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (half == 0) {
                load(1);
            } else {
                // The next stage has landed, and all warps have read the one before this, which the next copy overwrites.
                wait_copies<STAGES - 2>();
                __syncthreads();
                next(read);
                if (step + 1 < steps) load(0);
            }
            if (half == 0) copy();
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int j = 0; j < PAIRS; j++) {
                    mma(sums.at[i][2 * j], fa[half][i], fb[half][j][0], fb[half][j][1]);
                    mma(sums.at[i][2 * j + 1], fa[half][i], fb[half][j][2], fb[half][j][3]);
                }
            if constexpr (!std::is_same_v<ROW_SUMS, NoRowSums>) {
                constexpr uint32_t ONES = 0x3f803f80;
                if (warp / TILE::WARPS_DOWN == half && row_sums.wait == 0)
#pragma unroll
                    for (int i = 0; i < DOWN; i++) mma(row_sums.at[i], fa[half][i], ONES, ONES);
                if (half == 1) row_sums.wait = row_sums.wait == 0 ? row_sums.parts - 1 : row_sums.wait - 1;
            }
        }
    }
    wait_copies<0>();
}
