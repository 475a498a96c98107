// The product C = A B of row-major bf16 matrices on Hopper: sums of one tile in the registers of two warpgroups.
//
// Twelve warps. One copies boxes of both operands through a ring in shared memory, always as far ahead as the ring allows,
// across the ends of tiles; two warpgroups multiply, 64 rows each, and store while the next tile's boxes land. Two CTAs, a
// cluster, take tile after tile, one below the other, and each copies half of B for both. A and B may be contiguous along either
// index: wgmma reads both. What lies outside the matrices is zeros.

#pragma once
#include "product.cuh"
#ifdef HOPPER
#include "hopper.cuh"
#include "wgmma.cuh"

// 110 flops a byte of level two; 192 divides the extents of every preset but one, and 96 sums a thread leave registers for
// epilogues.
struct Stream128x192 {
    static constexpr int ROWS = 128, COLUMNS = 192, DEPTH = 64, STAGES = 5;
    static constexpr int WARP_ROWS = 16, WARP_COLUMNS = COLUMNS, WARPS_DOWN = 8;
    static constexpr int THREADS = 3 * WARPGROUP;
    static constexpr int A_BYTES = ROWS * DEPTH * 2, BYTES = (ROWS + COLUMNS) * DEPTH * 2;
    // 64 terms of 64 elements of the output.
    static constexpr int PANEL = 64 * DEPTH * 2;
};

// The tiles of a cluster.
struct StreamPair {
    static constexpr int CTAS = 2, ROWS = CTAS * Stream128x192::ROWS, COLUMNS = Stream128x192::COLUMNS;
};

// A's part of a stage in boxes: 128 rows of 64 terms; or panels of 64 terms, each a row of 64 elements.
template <Contiguous LAYOUT>
DEVICE void copy_a(uint32_t to, const CUtensorMap& map, uint32_t barrier, uint32_t row, uint32_t term) {
    if (LAYOUT == Contiguous::Sum)
        copy_box(to, map, barrier, term, row, 0);
    else
#pragma unroll
        for (int panel = 0; panel < Stream128x192::ROWS / 64; panel++)
            copy_box(to + panel * Stream128x192::PANEL, map, barrier, row + panel * 64, term, 0);
}

// The half of B's part that is this CTA's to copy, for both: 96 columns of 64 terms; or 32 terms of every panel.
template <Contiguous LAYOUT>
DEVICE void copy_b(uint32_t to, const CUtensorMap& map, uint32_t barrier, uint32_t column, uint32_t term, uint32_t rank) {
    constexpr int HALF = Stream128x192::COLUMNS / 2, TERMS = Stream128x192::DEPTH / 2;
    if (LAYOUT == Contiguous::Sum)
        copy_box_to_both(to + rank * HALF * 128, map, barrier, term, column + rank * HALF, 0);
    else
#pragma unroll
        for (int panel = 0; panel < Stream128x192::COLUMNS / 64; panel++)
            copy_box_to_both(to + panel * Stream128x192::PANEL + rank * TERMS * 128, map, barrier, column + panel * 64,
                             term + rank * TERMS, 0);
}

using StreamSums = Sums<Stream128x192>;

struct Nobody {
    static constexpr bool WATCHES = false;
};

// Sums of the rows of A, which is contiguous along them, by one warp: a lane has eight rows of every fourth term. A CTA takes
// every `parts`-th stage, the first after as many others as its tile's column: so those of one row of tiles cover every term
// once.
struct RowWatch {
    static constexpr bool WATCHES = true;
    float* out;
    uint32_t parts, rows;

    DEVICE static void add(float (&sums)[8], uint32_t from) {
        uint32_t lane = threadIdx.x % WARP;
#pragma unroll 4
        for (uint32_t term = lane / 8; term < Stream128x192::DEPTH; term += 4) {
            uint4 v;
            asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                         : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                         : "r"(from + term * 128 + ((lane ^ term) % 8) * 16)
                         : "memory");
            uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float2 pair = unpack_bf16(words[i]);
                sums[2 * i] += pair.x, sums[2 * i + 1] += pair.y;
            }
        }
    }
    DEVICE void store(const float (&sums)[8], Place tile, int panel) const {
        uint32_t lane = threadIdx.x % WARP, row = tile.row * Stream128x192::ROWS + panel * 64 + lane * 8;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float sum = sums[i] + __shfl_xor_sync(0xffffffffu, sums[i], 8);
            sum += __shfl_xor_sync(0xffffffffu, sum, 16);
            if (lane < 8 && row < rows) out[tile.column * rows + row + i] = sum;
        }
    }
};

// The tiles of cluster blockIdx.x / 2 of gridDim.x / 2, each over terms `first` to `last`; the warps of the two warpgroups that multiply
// call `store(sums, tile)`.
template <Contiguous A, Contiguous B, class WATCH, class STORE>
DEVICE void stream_product(const CUtensorMap& a, const CUtensorMap& b, uint32_t rows, uint32_t columns, uint32_t first,
                           uint32_t last, WATCH watch, STORE store) {
    using TILE = Stream128x192;
    constexpr bool A_ACROSS = A == Contiguous::Output, B_ACROSS = B == Contiguous::Output;
    using Stages = Ring<TILE::STAGES, TILE::BYTES>;
    uint32_t memory = shared_address(dynamic_shared());
    Stages ring(memory, memory + Stages::MEMORY);
    using PAIR = StreamPair;
    uint32_t pairs = (rows + PAIR::ROWS - 1) / PAIR::ROWS * ((columns + PAIR::COLUMNS - 1) / PAIR::COLUMNS);
    uint32_t warp = threadIdx.x / WARP, rank = cluster_rank();
    auto tile_of = [&](uint32_t pair) {
        Place at = place<PAIR>(pair, rows, columns);
        return Place{at.row * PAIR::CTAS + rank, at.column};
    };
    // A stage is empty where both CTAs have read it: either copies to both.
    auto release = [](uint32_t empty, uint32_t thread) {
        if (thread < PAIR::CTAS) arrive_at(empty, thread);
    };
    if (threadIdx.x == 0) ring.init(1, PAIR::CTAS * (2 + WATCH::WATCHES)), publish_barriers();
    synchronize_cluster();

    if (warp >= 8) {
        give_registers<56>();
        if (threadIdx.x == 8 * WARP)
            for (uint32_t at = blockIdx.x / PAIR::CTAS; at < pairs; at += gridDim.x / PAIR::CTAS) {
                Place tile = tile_of(at);
                for (uint32_t term = first; term < last; term += TILE::DEPTH, ring.next()) {
                    ring.wait_empty();
                    expect(ring.full(), TILE::BYTES);
                    copy_a<A>(ring.at(), a, ring.full(), tile.row * TILE::ROWS, term);
                    copy_b<B>(ring.at() + TILE::A_BYTES, b, ring.full(), tile.column * TILE::COLUMNS, term, rank);
                }
            }
        if constexpr (WATCH::WATCHES)
            if (warp == 9)
                for (uint32_t at = blockIdx.x / PAIR::CTAS; at < pairs; at += gridDim.x / PAIR::CTAS) {
                    Place tile = tile_of(at);
                    uint32_t others = tile.column;
                    float low[8] = {}, high[8] = {};
                    for (uint32_t term = first; term < last; term += TILE::DEPTH, ring.next()) {
                        ring.wait_full();
                        if (others == 0) watch.add(low, ring.at()), watch.add(high, ring.at() + TILE::PANEL);
                        others = others == 0 ? watch.parts - 1 : others - 1;
                        __syncwarp();
                        release(ring.empty(), threadIdx.x % WARP);
                    }
                    watch.store(low, tile, 0), watch.store(high, tile, 1);
                }
    } else {
        take_registers<224>();
        // The second warpgroup starts some stages behind the first and stays there, so that one's products run while the
        // other stores its sums.
        uint32_t own = warp / 4, lead = own == 0 ? TILE::STAGES - 1 : 0;
        if (own == 1) wait_for_warpgroup();
        for (uint32_t at = blockIdx.x / PAIR::CTAS; at < pairs; at += gridDim.x / PAIR::CTAS) {
            Sums<TILE> sums;
            uint32_t empty = 0;
            for (uint32_t term = first; term < last; term += TILE::DEPTH, ring.next()) {
                ring.wait_full();
                uint64_t from_a = describe<128>(ring.at() + own * TILE::PANEL, TILE::PANEL);
                uint64_t from_b = describe<128>(ring.at() + TILE::A_BYTES, TILE::PANEL);
                wgmma_fence();
                // By 16 terms: 32 bytes of every row, or 16 rows.
#pragma unroll
                for (int k = 0; k < 4; k++)
                    wgmma<A_ACROSS, B_ACROSS>(sums.at[0], from_a + k * (A_ACROSS ? 2048 : 32) / 16,
                                              from_b + k * (B_ACROSS ? 2048 : 32) / 16);
                wgmma_commit();
                // The products before these have ended: what they read may be overwritten.
                wgmma_wait<1>();
                if (term > first) release(empty, threadIdx.x % WARPGROUP);
                empty = ring.empty();
                if (lead > 0 && --lead == 0) let_warpgroup_go();
            }
            wgmma_wait<0>();
            if (last > first) release(empty, threadIdx.x % WARPGROUP);
            store(sums, tile_of(at));
        }
        if (lead > 0) let_warpgroup_go();
    }
    // Neither ends while the other may still arrive at its barriers.
    synchronize_cluster();
}

#endif
