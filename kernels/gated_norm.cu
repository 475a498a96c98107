// gated_norm: gate, residual, layer norm and modulation, and their gradients.
//
//   s' = s + gate[b] branch      y = h (1 + scale[b]) + shift[b],  h = (s' - mean) rstd         mean and variance over D
//
//   g  = dy (1 + scale)          ds = rstd (g - mean(g) - h mean(g h)) (+ ds')                  d branch = gate ds
//   dshift = sum_n dy            dscale = sum_n dy h            dgate = sum_n ds branch         added to dmodulation
//
//   s, branch, s', y and their gradients (B, N, D) T
//   modulation, dmodulation (B, chunks D) T: gate, shift and scale are chunks of width D
//   stats (B, N) f32 pairs (mean, rstd)      sums (B, blocks, 3, D) f32: of dshift, dscale and dgate
//
// Without a branch (null) s' is s and nothing but y and stats is written; backward then has two sums. y is made of s' as
// it is stored, so that it can be made again. Backward writes d branch over dy, and ds over ds' or, unless `add`, to
// fresh memory. One block sums the columns of `height` rows of one image; `sums` adds the blocks in their order.
// Traffic in units of B N D elements: forward reads 2 and writes 2, backward reads 4 and writes 2; sums, in f32, are
// written and read once for every `height` rows.
//
// NAME_bf16_packed take widths that are multiples of 8, up to 1,280 (forward: a warp holds a row) and 2,048 (backward: a
// thread has 8 columns). NAME_f32 and NAME_bf16 take any width, in 256 threads.
#include "lib/pack.cuh"
#include "lib/reduce.cuh"

// The constant of DiT's norms.
constexpr float EPSILON = 1e-6f;

// Of a block of the forward, each with a row, and at most of a block of the backward.
constexpr int WARPS = 8;

// A row of this many packs a lane is 1,280 wide.
constexpr int PACKS = 5;

// Rows of the backward between two barriers: 8 KiB of reads in flight for a warp, in half of its registers.
constexpr int ROWS = 2;

struct Chunks {
    uint32_t all, gate, shift, scale;
};

// The modulation of one image.
template <class T>
struct Modulation {
    const T *gate, *shift, *scale;

    DEVICE Modulation(const T* modulation, Chunks chunks, uint32_t image, uint32_t width) {
        const T* first = modulation + size_t(image) * chunks.all * width;
        gate = first + chunks.gate * width, shift = first + chunks.shift * width, scale = first + chunks.scale * width;
    }
};

// The norm of a row, from its stats.
struct Norm {
    float mean, rstd;

    DEVICE float of(float s) const { return (s - mean) * rstd; }
    // ds of the norm alone, from the means of g and of g h over the row.
    DEVICE float gradient(float g, float h, float mean_g, float mean_gh) const {
        return rstd * fmaf(-h, mean_gh, g - mean_g);
    }
};

DEVICE Norm norm_of(float mean, float variance) { return {mean, 1.f / sqrtf(variance + EPSILON)}; }

// Calls `f(i, column)` for the packs of a row that this lane holds.
template <class F>
DEVICE void packs_of_lane(uint32_t width, F f) {
#pragma unroll
    for (int i = 0; i < PACKS; i++) {
        uint32_t column = (threadIdx.x % WARP + i * WARP) * Pack<bf16>::SIZE;
        if (column < width) f(i, column);
    }
}

extern "C" __global__ void __launch_bounds__(WARPS* WARP, 3) gated_norm_forward_bf16_packed(
    const bf16* __restrict__ stream, const bf16* __restrict__ branch, const bf16* __restrict__ modulation,
    bf16* __restrict__ gated, bf16* __restrict__ normed, float2* __restrict__ stats, uint32_t chunks, uint32_t gate,
    uint32_t shift, uint32_t scale, uint32_t tokens, uint32_t width, uint32_t rows) {
    uint32_t row = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (row >= rows) return;
    Modulation<bf16> m(modulation, {chunks, gate, shift, scale}, row / tokens, width);
    size_t first = size_t(row) * width;
    Pack<bf16> s[PACKS];
    packs_of_lane(width, [&](int i, uint32_t column) { s[i] = load(stream + first + column); });
    if (branch) {
        Pack<bf16> b[PACKS], g[PACKS];
        packs_of_lane(width, [&](int i, uint32_t column) {
            b[i] = load(branch + first + column);
            g[i] = load(m.gate + column);
        });
        packs_of_lane(width, [&](int i, uint32_t column) {
            float x[8];
#pragma unroll
            for (int j = 0; j < 8; j++) x[j] = fmaf(g[i][j], b[i][j], s[i][j]);
            s[i] = rounded<bf16>(x);
            store(gated + first + column, s[i]);
        });
    }
    float sum = 0, squares = 0;
    packs_of_lane(width, [&](int i, uint32_t) {
#pragma unroll
        for (int j = 0; j < 8; j++) sum += s[i][j];
    });
    float inverse = 1.f / width, mean = warp_sum(sum) * inverse;
    packs_of_lane(width, [&](int i, uint32_t) {
#pragma unroll
        for (int j = 0; j < 8; j++) squares = fmaf(s[i][j] - mean, s[i][j] - mean, squares);
    });
    Norm norm = norm_of(mean, warp_sum(squares) * inverse);
    if (threadIdx.x % WARP == 0) stats[row] = {norm.mean, norm.rstd};
    Pack<bf16> shifts[PACKS], scales[PACKS];
    packs_of_lane(width, [&](int i, uint32_t column) {
        shifts[i] = load(m.shift + column);
        scales[i] = load(m.scale + column);
    });
    packs_of_lane(width, [&](int i, uint32_t column) {
        float y[8];
#pragma unroll
        for (int j = 0; j < 8; j++) y[j] = fmaf(norm.of(s[i][j]), 1.f + scales[i][j], shifts[i][j]);
        store(normed + first + column, rounded<bf16>(y));
    });
}

// One warp for each row, which it reads again for each pass.
template <class T>
DEVICE void forward(const T* stream, const T* branch, const T* modulation, T* gated, T* normed, float2* stats,
                    Chunks chunks, uint32_t tokens, uint32_t width, uint32_t rows) {
    uint32_t row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    Modulation<T> m(modulation, chunks, row / tokens, width);
    size_t first = size_t(row) * width;
    const T* s = branch ? gated + first : stream + first;
    float sum = 0, squares = 0;
    for (uint32_t column = lane; column < width; column += WARP) {
        if (branch) {
            float x = fmaf(to_float(m.gate[column]), to_float(branch[first + column]), to_float(stream[first + column]));
            gated[first + column] = from_float<T>(x);
        }
        sum += to_float(s[column]);
    }
    float inverse = 1.f / width, mean = warp_sum(sum) * inverse;
    for (uint32_t column = lane; column < width; column += WARP) {
        float x = to_float(s[column]) - mean;
        squares = fmaf(x, x, squares);
    }
    Norm norm = norm_of(mean, warp_sum(squares) * inverse);
    if (lane == 0) stats[row] = {norm.mean, norm.rstd};
    for (uint32_t column = lane; column < width; column += WARP) {
        float h = norm.of(to_float(s[column]));
        normed[first + column] = from_float<T>(fmaf(h, 1.f + to_float(m.scale[column]), to_float(m.shift[column])));
    }
}

// The sums over the block, which every thread gets. `turn` is another one with every call: what an earlier call left may
// still be read, and what the call before that left may not.
template <int N>
DEVICE void block_sums(float (&x)[N], uint32_t turn) {
    __shared__ alignas(16) float of_warps[2][WARPS][N];
#pragma unroll
    for (float& term : x) term = warp_sum(term);
    if (threadIdx.x % WARP == 0)
#pragma unroll
        for (int i = 0; i < N; i++) of_warps[turn % 2][threadIdx.x / WARP][i] = x[i];
    __syncthreads();
#pragma unroll
    for (float& sum : x) sum = 0;
    for (uint32_t warp = 0; warp < blockDim.x / WARP; warp++)
#pragma unroll
        for (int i = 0; i < N; i++) x[i] += of_warps[turn % 2][warp][i];
}

// The rows of block blockIdx.x of image blockIdx.y.
struct Rows {
    uint32_t first, last;

    DEVICE Rows(uint32_t tokens, uint32_t height) {
        uint32_t image = blockIdx.y * tokens, row = blockIdx.x * height;
        first = image + row, last = image + min(row + height, tokens);
    }
};

DEVICE float* sums_of_block(float* sums, uint32_t width) {
    return sums + size_t(blockIdx.y * gridDim.x + blockIdx.x) * 3 * width;
}

extern "C" __global__ void __launch_bounds__(WARPS* WARP, 2) gated_norm_backward_bf16_packed(
    bf16* dnormed, bf16* dstream, const bf16* __restrict__ stream, const bf16* __restrict__ branch,
    const float2* __restrict__ stats, const bf16* __restrict__ modulation, float* __restrict__ sums, uint32_t chunks,
    uint32_t gate, uint32_t scale, uint32_t tokens, uint32_t width, uint32_t height, uint32_t add) {
    Modulation<bf16> m(modulation, {chunks, gate, 0, scale}, blockIdx.y, width);
    Rows rows(tokens, height);
    uint32_t column = threadIdx.x * 8;
    bool inside = column < width;
    auto load_inside = [&](const bf16* from, bool valid) { return inside && valid ? load(from) : Pack<bf16>{}; };
    Pack<bf16> scales = load_inside(m.scale + column, true), gates = load_inside(m.gate + column, branch);
    float inverse = 1.f / width, dshift[8] = {}, dscale[8] = {}, dgate[8] = {};

    for (uint32_t row = rows.first, turn = 0; row < rows.last; row += ROWS, turn++) {
        // Zeros beyond the rows add nothing to any sum.
        Pack<bf16> dy[ROWS], ds[ROWS], s[ROWS], b[ROWS];
        Norm norm[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            bool valid = row + r < rows.last;
            size_t at = size_t(row + r) * width + column;
            dy[r] = load_inside(dnormed + at, valid);
            s[r] = load_inside(stream + at, valid);
            ds[r] = load_inside(dstream + at, valid && add);
            b[r] = load_inside(branch + at, valid && branch);
            float2 pair = valid ? stats[row + r] : float2{};
            norm[r] = {pair.x, pair.y};
        }
        float means[2 * ROWS] = {};
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float h = norm[r].of(s[r][j]), g = dy[r][j] * (1.f + scales[j]);
                dshift[j] += dy[r][j];
                dscale[j] = fmaf(dy[r][j], h, dscale[j]);
                means[2 * r] += g;
                means[2 * r + 1] = fmaf(g, h, means[2 * r + 1]);
            }
        block_sums(means, turn);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float mean_g = means[2 * r] * inverse, mean_gh = means[2 * r + 1] * inverse;
            float d[8], dbranch[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float h = norm[r].of(s[r][j]), g = dy[r][j] * (1.f + scales[j]);
                d[j] = ds[r][j] + norm[r].gradient(g, h, mean_g, mean_gh);
                dgate[j] = fmaf(d[j], b[r][j], dgate[j]);
                dbranch[j] = d[j] * gates[j];
            }
            size_t at = size_t(row + r) * width + column;
            if (inside && row + r < rows.last) {
                store(dstream + at, rounded<bf16>(d));
                if (branch) store(dnormed + at, rounded<bf16>(dbranch));
            }
        }
    }
    if (!inside) return;
    float* to = sums_of_block(sums, width) + column;
    auto store_sums = [&](float* to, const float(&of)[8]) {
        store(to, Pack<float>{of[0], of[1], of[2], of[3]});
        store(to + 4, Pack<float>{of[4], of[5], of[6], of[7]});
    };
    store_sums(to, dshift);
    store_sums(to + width, dscale);
    if (branch) store_sums(to + 2 * width, dgate);
}

// A thread has every 256th column, whose sums it keeps where the block's are to be.
template <class T>
DEVICE void backward(T* dnormed, T* dstream, const T* stream, const T* branch, const float2* stats, const T* modulation,
                     float* sums, Chunks chunks, uint32_t tokens, uint32_t width, uint32_t height, bool add) {
    Modulation<T> m(modulation, chunks, blockIdx.y, width);
    Rows rows(tokens, height);
    float *dshift = sums_of_block(sums, width), *dscale = dshift + width, *dgate = dscale + width, inverse = 1.f / width;
    for (uint32_t row = rows.first; row < rows.last; row++) {
        size_t first = size_t(row) * width;
        Norm norm = {stats[row].x, stats[row].y};
        bool more = row > rows.first;
        float means[2] = {};
        for (uint32_t column = threadIdx.x; column < width; column += blockDim.x) {
            float d = to_float(dnormed[first + column]), h = norm.of(to_float(stream[first + column]));
            float g = d * (1.f + to_float(m.scale[column]));
            dshift[column] = more ? dshift[column] + d : d;
            dscale[column] = fmaf(d, h, more ? dscale[column] : 0.f);
            means[0] += g;
            means[1] = fmaf(g, h, means[1]);
        }
        block_sums(means, row);
        float mean_g = means[0] * inverse, mean_gh = means[1] * inverse;
        for (uint32_t column = threadIdx.x; column < width; column += blockDim.x) {
            size_t at = first + column;
            float h = norm.of(to_float(stream[at])), g = to_float(dnormed[at]) * (1.f + to_float(m.scale[column]));
            float d = norm.gradient(g, h, mean_g, mean_gh);
            if (add) d += to_float(dstream[at]);
            dstream[at] = from_float<T>(d);
            if (!branch) continue;
            dgate[column] = fmaf(d, to_float(branch[at]), more ? dgate[column] : 0.f);
            dnormed[at] = from_float<T>(d * to_float(m.gate[column]));
        }
    }
}

// One thread for each column of image blockIdx.z; blockIdx.y is 0 for dshift, 1 for dscale, 2 for dgate.
template <class T>
DEVICE void add_sums(const float* sums, T* dmodulation, Chunks chunks, uint32_t width, uint32_t blocks) {
    uint32_t column = blockIdx.x * blockDim.x + threadIdx.x, part = blockIdx.y, image = blockIdx.z;
    if (column >= width) return;
    uint32_t chunk = part == 0 ? chunks.shift : part == 1 ? chunks.scale : chunks.gate;
    const float* of = sums + (size_t(image) * blocks * 3 + part) * width + column;
    float sum = 0;
    for (uint32_t block = 0; block < blocks; block++) sum += of[size_t(block) * 3 * width];
    T* to = dmodulation + (size_t(image) * chunks.all + chunk) * width + column;
    *to = from_float<T>(to_float(*to) + sum);
}

// `stream` is not restrict: of a pointer that is either it or `gated`, nvcc would take the promise for both, and read with
// ld.global.nc what the kernel has just written.
#define ANY_WIDTH(T, TYPE)                                                                                                 \
    extern "C" __global__ void __launch_bounds__(WARPS* WARP) gated_norm_forward_##TYPE(                                   \
        const T* stream, const T* __restrict__ branch, const T* __restrict__ modulation, T* gated,                         \
        T* __restrict__ normed, float2* __restrict__ stats, uint32_t chunks, uint32_t gate, uint32_t shift,                \
        uint32_t scale, uint32_t tokens, uint32_t width, uint32_t rows) {                                                  \
        forward(stream, branch, modulation, gated, normed, stats, {chunks, gate, shift, scale}, tokens, width, rows);      \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(WARPS* WARP) gated_norm_backward_##TYPE(                                  \
        T* dnormed, T* dstream, const T* __restrict__ stream, const T* __restrict__ branch,                                \
        const float2* __restrict__ stats, const T* __restrict__ modulation, float* sums, uint32_t chunks, uint32_t gate,   \
        uint32_t scale, uint32_t tokens, uint32_t width, uint32_t height, uint32_t add) {                                  \
        backward(dnormed, dstream, stream, branch, stats, modulation, sums, {chunks, gate, 0, scale}, tokens, width,       \
                 height, add);                                                                                             \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(WARPS* WARP) gated_norm_sums_##TYPE(                                      \
        const float* __restrict__ sums, T* dmodulation, uint32_t chunks, uint32_t gate, uint32_t shift, uint32_t scale,    \
        uint32_t width, uint32_t blocks) {                                                                                 \
        add_sums(sums, dmodulation, {chunks, gate, shift, scale}, width, blocks);                                          \
    }
ANY_WIDTH(float, f32)
ANY_WIDTH(bf16, bf16)
