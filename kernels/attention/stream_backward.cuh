// Attention backward on Hopper, as in backward.cuh: for each head items that own keys and items that own queries. A CTA takes
// one after another, two warpgroups 64 rows each; of at most 64 tokens it takes two heads, a warpgroup each, which owns the
// head's keys and then its queries and reads what it needs once.
//
// A warp copies what is owned and what streams by, as far ahead as two rings allow, and another adds the streaming queries'
// statistics. Weights and their gradients never leave the registers: rounded, they are left factors.

#pragma once
#include "../lib/math.cuh"
#include "head.cuh"
#include "tiles.cuh"

template <int WIDTH, int ROWS>
struct StreamBackward {
    // Heads of one item; a tile of each of them; two tensors' tiles, which make a stage.
    static constexpr int HEADS = 128 / ROWS, TILE = Tile<WIDTH, ROWS>::BYTES, TENSOR = HEADS * TILE, STAGE = 2 * TENSOR;
    // Columns of the scores that are made at a time: what the registers hold beside the sums.
    static constexpr int COLUMNS = WIDTH > 80 ? 32 : 64;
    using Owned = Ring<(WIDTH > 80 ? 1 : 2), STAGE>;
    using Streamed = Ring<(WIDTH > 80 ? 2 : 3), STAGE>;
    // The logarithms of a head's streaming queries, to base 2, then their deltas: as many as two tiles have rows.
    static constexpr int STATISTICS = 2 * 128 * 4, ZEROS = 64 * 16;

    const CUtensorMap &panels, &rest, &dout_panels, &dout_rest;
    const float *lse, *delta;
    bf16* dqkv;
    uint32_t batch, tokens, heads;
    float scale;

    // What a warpgroup does in a turn: its head, the first row of the tile it owns, and whether that is of keys.
    struct Item {
        uint32_t image, head, first;
        bool keys;
    };
    DEVICE uint32_t blocks() const { return (tokens + ROWS - 1) / ROWS; }
    DEVICE uint32_t items() const { return HEADS == 1 ? batch * heads * blocks() * 2 : (batch * heads + HEADS - 1) / HEADS; }
    DEVICE Item item(uint32_t at, uint32_t group) const {
        uint32_t head = HEADS == 1 ? at / (2 * blocks()) : at * HEADS + group;
        uint32_t block = HEADS == 1 ? at % (2 * blocks()) : 0;
        bool keys = block < blocks();
        return {head / heads, head % heads, (keys ? block : block - blocks()) * ROWS, keys};
    }
    // Where a head's statistics lie; of an image that does not exist, somewhere.
    DEVICE uint32_t statistics_of(Item of) const { return (of.image * heads + of.head) * tokens; }

    // Part 0 to 2 is q, k, v; 3 is dout.
    DEVICE void copy(uint32_t to, uint32_t barrier, uint32_t part, uint32_t at, uint32_t row) const {
        bool given = part == 3;
#pragma unroll
        for (int i = 0; i < HEADS; i++) {
            Item of = item(at, i);
            // Of an image that does not exist everything is zeros.
            Tile<WIDTH, ROWS>::copy(to + i * TILE, given ? dout_panels : panels, given ? dout_rest : rest, barrier,
                                    ((given ? 0 : part * heads) + of.head) * WIDTH, row, of.image);
        }
    }

    DEVICE void produce(Owned owned, Streamed streamed) const {
        for (uint32_t at = blockIdx.x; at < items(); at += gridDim.x, owned.next()) {
            Item of = item(at, 0);
            owned.wait_empty();
            expect(owned.full(), STAGE);
            copy(owned.at(), owned.full(), of.keys ? 1 : 0, at, of.first);
            copy(owned.at() + TENSOR, owned.full(), of.keys ? 2 : 3, at, of.first);
            for (uint32_t row = 0; row < tokens; row += ROWS, streamed.next()) {
                streamed.wait_empty();
                expect(streamed.full(), STAGE);
                copy(streamed.at(), streamed.full(), of.keys ? 0 : 1, at, row);
                copy(streamed.at() + TENSOR, streamed.full(), of.keys ? 3 : 2, at, row);
            }
        }
    }

    // By one warp, beside what is copied.
    DEVICE void produce_statistics(Streamed streamed, float* statistics) const {
        for (uint32_t at = blockIdx.x; at < items(); at += gridDim.x)
            for (uint32_t row = 0; row < tokens; row += ROWS, streamed.next()) {
                streamed.wait_empty();
                float* to = statistics + streamed.stage * (STATISTICS / 4);
#pragma unroll
                for (int i = threadIdx.x % WARP; i < 128; i += WARP) {
                    Item of = item(at, i / ROWS);
                    uint32_t n = row + i % ROWS;
                    // Of queries that do not exist every weight is zero.
                    bool exists = of.image < batch && n < tokens;
                    float* head = to + i / ROWS * 2 * ROWS + i % ROWS;
                    head[0] = exists ? lse[statistics_of(of) + n] * LOG2_E : INFINITY;
                    head[ROWS] = exists ? delta[statistics_of(of) + n] : 0.f;
                }
                __syncwarp();
                if (threadIdx.x % WARP == 0) arrive(streamed.full());
            }
    }

    // The gradients of 64 rows: dk and dv, or dq.
    struct Sums {
        HeadSums<WIDTH> ds, p;
    };
    // Of a lane's two rows, where they are queries.
    struct Statistics {
        float log[2], delta[2];
    };

    // Goes on by COLUMNS columns of the scores, `first` and on of the streaming tiles, of which `left` exist. Rows `row` and on
    // are owned.
    template <bool OWNS_KEYS>
    DEVICE void block(Sums& sums, uint32_t x, uint32_t row, uint32_t u, uint32_t first, uint32_t left,
                      const float* statistics, const Statistics& own, uint32_t zeros, bool add) const {
        float s[COLUMNS / 8][4], dp[COLUMNS / 8][4];
        uint32_t p[COLUMNS / 16][4], ds[COLUMNS / 16][4], column = threadIdx.x % 4 * 2;
        wgmma_fence();
        multiply_rows<WIDTH, ROWS>(s, x, row, u, first, zeros);
        wgmma_commit();
        multiply_rows<WIDTH, ROWS>(dp, x + TENSOR, row, u + TENSOR, first, zeros);
        wgmma_commit();
        wgmma_wait<1>();
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++) {
            float2 logs = OWNS_KEYS ? *reinterpret_cast<const float2*>(statistics + first + j * 8 + column) : float2{};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float log = OWNS_KEYS ? (e % 2 ? logs.y : logs.x) : own.log[e / 2];
                s[j][e] = exp2_approximate(s[j][e] * (scale * LOG2_E) - log);
            }
        }
        // Keys that do not exist; queries that do not have an infinite logarithm.
        if (!OWNS_KEYS && left < COLUMNS)
#pragma unroll
            for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (j * 8 + column + e % 2 >= left) s[j][e] = 0;
        if constexpr (OWNS_KEYS) {
            pack_terms(p, s);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < COLUMNS / 16; k++)
                multiply_columns<WIDTH, ROWS>(sums.p, p[k], u + TENSOR, first + k * 16, add || k > 0);
            wgmma_commit();
        }
        wgmma_wait<OWNS_KEYS>();
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++) {
            float2 deltas =
                OWNS_KEYS ? *reinterpret_cast<const float2*>(statistics + ROWS + first + j * 8 + column) : float2{};
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[j][e] *= dp[j][e] - (OWNS_KEYS ? (e % 2 ? deltas.y : deltas.x) : own.delta[e / 2]);
        }
        pack_terms(ds, s);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < COLUMNS / 16; k++)
            multiply_columns<WIDTH, ROWS>(sums.ds, ds[k], u, first + k * 16, add || k > 0);
        wgmma_commit();
        wgmma_wait<0>();
    }

    // A stage of the ring, `left` of whose rows exist.
    template <bool OWNS_KEYS>
    DEVICE void stage(Sums& sums, uint32_t x, uint32_t row, uint32_t u, uint32_t left, const float* statistics,
                      const Statistics& own, uint32_t zeros, bool add) const {
#pragma unroll 1
        for (uint32_t first = 0; first < min(left, ROWS); first += COLUMNS)
            block<OWNS_KEYS>(sums, x, row, u, first, left - first, statistics, own, zeros, add || first > 0);
    }

    // This lane's first row of those that its warpgroup owns.
    DEVICE uint32_t lane_row(Item of, uint32_t row) const {
        return of.first + row + threadIdx.x % WARPGROUP / WARP * 16 + threadIdx.x % WARP / 4;
    }

    DEVICE Statistics load(Item of, uint32_t row) const {
        Statistics own;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t n = lane_row(of, row) + half * 8;
            bool exists = of.image < batch && n < tokens;
            own.log[half] = exists ? lse[statistics_of(of) + n] * LOG2_E : INFINITY;
            own.delta[half] = exists ? delta[statistics_of(of) + n] : 0.f;
        }
        return own;
    }

    DEVICE void store(Item of, uint32_t row, uint32_t part, const HeadSums<WIDTH>& sums, float factor) const {
        Head<bf16> to(dqkv, tokens, WIDTH, part, 3, of.image, of.head, heads);
        if (of.image < batch) store_sums<WIDTH>(to, lane_row(of, row), tokens, sums, factor, factor);
    }

    DEVICE void consume(Owned owned, Streamed streamed, const float* statistics, uint32_t zeros) const {
        uint32_t group = threadIdx.x / WARPGROUP, lead = threadIdx.x % WARPGROUP == 0;
        uint32_t tile = HEADS == 1 ? 0 : group * TILE, row = HEADS == 1 ? group * 64 : 0;
        statistics += HEADS == 1 ? 0 : group * 2 * ROWS;
        for (uint32_t at = blockIdx.x; at < items(); at += gridDim.x, owned.next()) {
            Item of = item(at, group);
            Sums sums;
            Statistics own = load(of, row);
            owned.wait_full();
            uint32_t x = owned.at() + tile;
            for (uint32_t n = 0; n < tokens; n += ROWS, streamed.next()) {
                streamed.wait_full();
                uint32_t u = streamed.at() + tile;
                const float* columns = statistics + streamed.stage * (STATISTICS / 4);
                if (of.keys)
                    stage<true>(sums, x, row, u, tokens - n, columns, own, zeros, n > 0);
                else
                    stage<false>(sums, x, row, u, tokens - n, columns, own, zeros, n > 0);
                if constexpr (HEADS > 1) {
                    // The same tiles with their roles exchanged.
                    store(of, row, 1, sums.ds, scale), store(of, row, 2, sums.p, 1.f);
                    stage<false>(sums, u, row, x, tokens, columns, own, zeros, false);
                    store(of, row, 0, sums.ds, scale);
                }
                // Each warp has read statistics of its own.
                __syncwarp();
                if (threadIdx.x % WARP == 0) arrive(streamed.empty());
            }
            if (lead) arrive(owned.empty());
            if constexpr (HEADS == 1) {
                store(of, row, of.keys ? 1 : 0, sums.ds, scale);
                if (of.keys) store(of, row, 2, sums.p, 1.f);
            }
        }
    }

    DEVICE void run() const {
        uint8_t* memory = dynamic_shared();
        // Boxes lie at multiples of their atoms; barriers come last.
        constexpr int ZEROS_AT = Owned::MEMORY + Streamed::MEMORY, STATISTICS_AT = ZEROS_AT + ZEROS;
        constexpr int BARRIERS_AT = STATISTICS_AT + Streamed::MEMORY / STAGE * STATISTICS;
        uint32_t first = shared_address(memory), barriers = first + BARRIERS_AT;
        Owned owned(first, barriers);
        Streamed streamed(first + Owned::MEMORY, barriers + Owned::BARRIERS);
        float* statistics = reinterpret_cast<float*>(memory + STATISTICS_AT);
        if (threadIdx.x < ZEROS / 16) {
            *reinterpret_cast<uint4*>(memory + ZEROS_AT + threadIdx.x * 16) = {};
            publish_to_engines();
        }
        if (threadIdx.x == 0) owned.init(1, 2), streamed.init(2, 2 * WARPGROUP / WARP), publish_barriers();
        __syncthreads();
        if (threadIdx.x >= 2 * WARPGROUP) {
            give_registers<40>();
            if (threadIdx.x == 2 * WARPGROUP) produce(owned, streamed);
            if (threadIdx.x / WARP == 9) produce_statistics(streamed, statistics);
        } else {
            take_registers<232>();
            consume(owned, streamed, statistics, first + ZEROS_AT);
        }
    }
};
