// Bounds of logits from one byte a value: the twin of src/cpu/score/select.rs.

#pragma once
#include "../lib/product.cuh"
#include "rows.cuh"

constexpr uint32_t LEAF = 128;

// 64 queries, or 16 where there are no more: then the rings of three CTAs keep 120 KiB of rows under way on an SM.
using Tile64 = Tile<LEAF, 64, 32, 32, 3, 2>;
using Tile16 = Tile<LEAF, 16, 64, 16, 5, 3>;

// The numbers of a query that make bounds of sums, in the order of `Terms` in src/cpu/score/select.rs.
struct Terms {
    double step, shift, half, rest, length, own, dimensions, unused;
};

struct Bound {
    double lower, upper;
};

// What a bound of the sum may be off for a row: each term of the logit, and the rounding of all of them.
DEVICE Bound bound(const Terms& query, Facts rows, uint32_t row, double sum) {
    // Of the size of the terms of a logit, what their rounding in f64 may be, and then some.
    constexpr double ROUNDING = 1e-12;
    const double worth = query.step * rows.scale[row], square = query.half * rows.square[row];
    const double size = query.length * rows.length[row], logit = worth * (sum - query.shift) - square;
    // The sum and the shift cancel each other, so what they round is of the size of both.
    const double error = query.rest * rows.length[row] + query.length * rows.residual[row] +
                         ROUNDING * (size + square + query.own + fabs(worth * query.shift));
    return {logit - error, logit + error};
}

// No more and no less than | |z - alpha x| / sigma sqrt d - 1 |: `lower` and `upper` of a distance to the shell.
DEVICE Bound to_shell(const Terms& query, Bound logit) {
    auto ratio = [&](double logit) { return sqrt(fmax(2.0 * (query.own - logit) / query.dimensions, 0.0)) - 1.0; };
    const double high = ratio(logit.lower), low = ratio(logit.upper), a = fabs(low), b = fabs(high);
    const double rounding = 1e-12 * (1.0 + b);
    return {low < 0.0 && high > 0.0 ? 0.0 : fmin(a, b) - rounding, fmax(a, b) + rounding};
}

// sums[q][r] = sum over j of slices[r][j] queries[q][j] of the CTA's leaf and queries, whole numbers: exact in any order.
template <class TILE>
struct LeafSums {
    // Words of two bytes; of as many a sum of products of 255 by 127 fits into 32 bits.
    static constexpr uint32_t WORDS = 1 << 15;
    // What the four lanes of a row write two rows apart, and the four rows beside it, lies in sixteen banks of 8 bytes.
    static constexpr uint32_t PITCH = LEAF + 2;
    static constexpr uint32_t BYTES = TILE::STAGES * TILE::BYTES + TILE::COLUMNS * PITCH * sizeof(double);

    double* sums = reinterpret_cast<double*>(dynamic_shared() + TILE::STAGES * TILE::BYTES);

    DEVICE double at(uint32_t q, uint32_t r) const { return sums[q * PITCH + r]; }

    // `first`: of the leaf, whose rows end before `end`; `query`: the first of the CTA, of `asked`.
    DEVICE LeafSums(const uint8_t* slices, const int8_t* queries, uint32_t pitch, uint32_t first, uint32_t end,
                    uint32_t query, uint32_t asked) {
        const bf16 *a = reinterpret_cast<const bf16*>(slices), *b = reinterpret_cast<const bf16*>(queries);
        const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, words = pitch / 2;
        const uint32_t row = warp % TILE::WARPS_DOWN * TILE::WARP_ROWS + lane / 4;
        const uint32_t column = warp / TILE::WARPS_DOWN * TILE::WARP_COLUMNS + lane % 4 * 2;
        for (uint32_t start = 0; start < words; start += WORDS) {
            if (start > 0) __syncthreads();
            Sums<TILE, int32_t> part;
            NoRowSums none;
            product<TILE, Contiguous::Sum, Contiguous::Sum>(part, none, a, b, first, query, end, asked, words, start,
                                                            min(start + WORDS, words));
#pragma unroll
            for (int i = 0; i < part.DOWN; i++)
#pragma unroll
                for (int j = 0; j < part.ACROSS; j++)
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        double& sum = sums[(column + j * 8 + k % 2) * PITCH + row + i * 16 + k / 2 * 8];
                        sum = (start > 0 ? sum : 0.0) + part.at[i][j][k];
                    }
        }
        __syncthreads();
    }
};

// What a CTA bounds: a leaf and a tile of queries. Those of one leaf are neighbours, so that its rows are read once.
template <class TILE>
struct Share {
    uint32_t leaf, query;

    DEVICE explicit Share(uint32_t asked) {
        const uint32_t tiles = (asked + TILE::COLUMNS - 1) / TILE::COLUMNS;
        leaf = blockIdx.x / tiles, query = blockIdx.x % tiles * TILE::COLUMNS;
    }

    // Calls `f(q)` for each query of the share, a warp each.
    template <class F>
    DEVICE void each_query(uint32_t asked, F f) const {
        for (uint32_t q = threadIdx.x / WARP; q < TILE::COLUMNS && query + q < asked; q += TILE::THREADS / WARP) f(q);
    }
};

// extremes (asked, leaves, 4): the largest of a leaf's lower and upper bounds, and of minus the upper and lower ones of the
// distance to the shell, where a query has dimensions.
template <class TILE>
DEVICE void leaf_extremes(const uint8_t* slices, double* facts, uint32_t all, uint32_t pitch, uint32_t first, uint32_t end,
                          const int8_t* queries, const Terms* terms, uint32_t asked, double* extremes) {
    const Share<TILE> share(asked);
    const uint32_t start = first + share.leaf * LEAF, leaves = (end - first + LEAF - 1) / LEAF;
    const LeafSums<TILE> sums(slices, queries, pitch, start, end, share.query, asked);
    const Facts rows(facts, all);
    share.each_query(asked, [&](uint32_t q) {
        const Terms query = terms[share.query + q];
        double most[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
        for (uint32_t r = threadIdx.x % WARP; r < min(LEAF, end - start); r += WARP) {
            const Bound logit = bound(query, rows, start + r, sums.at(q, r));
            most[0] = fmax(most[0], logit.lower), most[1] = fmax(most[1], logit.upper);
            if (query.dimensions == 0.0) continue;
            const Bound shell = to_shell(query, logit);
            most[2] = fmax(most[2], -shell.upper), most[3] = fmax(most[3], -shell.lower);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int distance = WARP / 2; distance > 0; distance /= 2)
                most[i] = fmax(most[i], __shfl_xor_sync(0xffffffffu, most[i], distance));
            if (threadIdx.x % WARP == 0) extremes[(size_t(share.query + q) * leaves + share.leaf) * 4 + i] = most[i];
        }
    });
}

// bounds (leaves of the list, asked, 2, LEAF): lower and upper ones of every row; of rows that are missing nothing is written.
template <class TILE>
DEVICE void leaf_bounds(const uint8_t* slices, double* facts, uint32_t all, uint32_t pitch, uint32_t first, uint32_t end,
                        const int8_t* queries, const Terms* terms, uint32_t asked, const uint32_t* leaves, double* bounds) {
    const Share<TILE> share(asked);
    const uint32_t start = first + leaves[share.leaf] * LEAF;
    const LeafSums<TILE> sums(slices, queries, pitch, start, end, share.query, asked);
    const Facts rows(facts, all);
    share.each_query(asked, [&](uint32_t q) {
        const Terms query = terms[share.query + q];
        double* out = bounds + (size_t(share.leaf) * asked + share.query + q) * 2 * LEAF;
        for (uint32_t r = threadIdx.x % WARP; r < min(LEAF, end - start); r += WARP) {
            const Bound logit = bound(query, rows, start + r, sums.at(q, r));
            out[r] = logit.lower, out[LEAF + r] = logit.upper;
        }
    });
}
