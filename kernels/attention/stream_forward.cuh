// Attention forward on Hopper: a CTA takes 128 queries of one head after another, two warpgroups 64 each; of at most 64 tokens
// it takes two heads, a warpgroup each.
//
// A warp copies queries, and keys and values by blocks, as far ahead as two rings allow, across the ends of heads. A warpgroup
// multiplies queries by a block of keys, turns the scores into weights in its registers, and multiplies those by the values
// straight from there, while the other one's products use the tensor cores.

#pragma once
#include "../lib/math.cuh"
#include "head.cuh"
#include "tiles.cuh"

template <int WIDTH, int ROWS>
struct StreamForward {
    // Heads of one item, and its bytes: one tile of 128 rows, or two of 64.
    static constexpr int HEADS = 128 / ROWS, TILE = Tile<WIDTH, ROWS>::BYTES, ITEM = HEADS * TILE;
    static constexpr int STAGES = WIDTH > 80 ? 2 : 4;
    using Queries = Ring<2, ITEM>;
    // Keys, then values.
    using Keys = Ring<STAGES, 2 * ITEM>;
    static constexpr int ZEROS = 64 * 16, SHARED = ZEROS + 2 * ITEM + 2 * STAGES * ITEM + 1024;

    const CUtensorMap &panels, &rest;
    bf16* out;
    float* lse;
    uint32_t batch, tokens, heads;
    // Of scores, to powers of two.
    float scale;

    // What a warpgroup does in a turn: its head, and its first query.
    struct Item {
        uint32_t image, head, query;
    };
    DEVICE uint32_t blocks() const { return (tokens + ROWS - 1) / ROWS; }
    DEVICE uint32_t items() const { return (batch * heads * blocks() + HEADS - 1) / HEADS; }
    DEVICE Item item(uint32_t at, uint32_t group) const {
        uint32_t head = HEADS == 1 ? at / blocks() : at * HEADS + group;
        return {head / heads, head % heads, HEADS == 1 ? at % blocks() * ROWS : 0};
    }

    DEVICE void copy(uint32_t to, uint32_t barrier, uint32_t part, uint32_t at, uint32_t row) const {
#pragma unroll
        for (int i = 0; i < HEADS; i++) {
            Item of = item(at, i);
            // Of an image that does not exist everything is zeros.
            Tile<WIDTH, ROWS>::copy(to + i * TILE, panels, rest, barrier, (part * heads + of.head) * WIDTH, row, of.image);
        }
    }

    DEVICE void produce(Queries queries, Keys keys) const {
        for (uint32_t at = blockIdx.x; at < items(); at += gridDim.x, queries.next()) {
            queries.wait_empty();
            expect(queries.full(), ITEM);
            copy(queries.at(), queries.full(), 0, at, item(at, 0).query);
            for (uint32_t key = 0; key < tokens; key += ROWS, keys.next()) {
                keys.wait_empty();
                expect(keys.full(), 2 * ITEM);
                copy(keys.at(), keys.full(), 1, at, key);
                copy(keys.at() + ITEM, keys.full(), 2, at, key);
            }
        }
    }

    DEVICE void consume(Queries queries, Keys keys, uint32_t zeros) const {
        uint32_t group = threadIdx.x / WARPGROUP, lead = threadIdx.x % WARPGROUP == 0;
        uint32_t tile = HEADS == 1 ? 0 : group * TILE, row = HEADS == 1 ? group * 64 : 0;
        for (uint32_t at = blockIdx.x; at < items(); at += gridDim.x, queries.next()) {
            HeadSums<WIDTH> o;
            Softmax rows[2];
            queries.wait_full();
            for (uint32_t key = 0; key < tokens; key += ROWS, keys.next()) {
                float s[ROWS / 8][4];
                keys.wait_full();
                wgmma_fence();
                multiply_rows<WIDTH, ROWS>(s, queries.at() + tile, row, keys.at() + tile, 0, zeros);
                wgmma_commit();
                wgmma_wait<0>();
                uint32_t p[ROWS / 16][4];
                weigh(p, s, rows, o, tokens - key, key > 0);
                wgmma_fence();
#pragma unroll
                for (int k = 0; k < ROWS / 16; k++)
                    multiply_columns<WIDTH, ROWS>(o, p[k], keys.at() + ITEM + tile, k * 16, key > 0 || k > 0);
                wgmma_commit();
                wgmma_wait<0>();
                if (lead) arrive(keys.empty());
            }
            if (lead) arrive(queries.empty());
            store(item(at, group), o, rows, row);
        }
    }

    // The weights of a block of keys, of which `left` exist, from their scores; what came before shrinks as the maximum grows.
    DEVICE void weigh(uint32_t (&p)[ROWS / 16][4], float (&s)[ROWS / 8][4], Softmax (&rows)[2], HeadSums<WIDTH>& o,
                      uint32_t left, bool shrinks) const {
        if (left < ROWS)
#pragma unroll
            for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (j * 8 + threadIdx.x % 4 * 2 + e % 2 >= left) s[j][e] = -INFINITY;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            Softmax& row = rows[half];
            float top = row.top;
#pragma unroll
            for (int j = 0; j < ROWS / 8; j++) top = fmaxf(top, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
            top = quad_max(top);
            float shrink = exp2_approximate((row.top - top) * scale), shift = top * scale;
            row.top = top;
            float total = 0;
#pragma unroll
            for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    s[j][e] = exp2_approximate(s[j][e] * scale - shift);
                    total += s[j][e];
                }
            row.total = row.total * shrink + total;
            if (shrinks)
#pragma unroll
                for (int j = 0; j < WIDTH / 8; j++) o.at(j, 2 * half) *= shrink, o.at(j, 2 * half + 1) *= shrink;
        }
pack_terms(p, s);
    }

    DEVICE void store(Item of, HeadSums<WIDTH>& o, const Softmax (&rows)[2], uint32_t row) const {
        uint32_t first = of.query + row + threadIdx.x % WARPGROUP / WARP * 16 + threadIdx.x % WARP / 4;
        if (of.image >= batch) return;
        Head<bf16> to(out, tokens, WIDTH, 0, 1, of.image, of.head, heads);
        float factor[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float total = quad_sum(rows[half].total);
            factor[half] = reciprocal_approximate(total);
            if (threadIdx.x % 4 == 0 && first + half * 8 < tokens)
                lse[(of.image * heads + of.head) * tokens + first + half * 8] =
                    LN_2 * (rows[half].top * scale + log2_approximate(total));
        }
        store_sums<WIDTH>(to, first, tokens, o, factor[0], factor[1]);
    }

    DEVICE void run() const {
        uint8_t* memory = dynamic_shared();
        uint32_t first = shared_address(memory), zeros = first + 2 * ITEM + 2 * STAGES * ITEM;
        // Boxes lie at multiples of their atoms; barriers come last.
        uint32_t barriers = zeros + ZEROS;
        Queries queries(first, barriers);
        Keys keys(first + 2 * ITEM, barriers + Queries::BARRIERS);
        if (threadIdx.x < ZEROS / 16) {
            *reinterpret_cast<uint4*>(memory + 2 * ITEM + 2 * STAGES * ITEM + threadIdx.x * 16) = {};
            publish_to_engines();
        }
        if (threadIdx.x == 0) queries.init(1, 2), keys.init(1, 2), publish_barriers();
        __syncthreads();
        if (threadIdx.x >= 2 * WARPGROUP) {
            give_registers<56>();
            if (threadIdx.x == 2 * WARPGROUP) produce(queries, keys);
        } else {
            take_registers<224>();
            consume(queries, keys, zeros);
        }
    }
};
