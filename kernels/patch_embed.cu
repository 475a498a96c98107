// patch_embed: the patches that are kept, and their embedding.
//
//   patches[b,n,(c p q)] = z[b, c, i P + p, j P + q]      kept[b,n] = (i j), or n where all are kept (null)
//   x[b,n] = W patches[b,n] + bias + position[kept[b,n]]
//
//   z (B, C, H, W) f32      kept (B, N) u32      patches (B, N, inner) T, inner = C P P      W (D, inner) T
//   bias (D) T      position (tokens of the grid, D) T      x (B, N, D) T
//
// `gather` has a thread for each element of patches: reads the kept patches of z once, writes patches, which the product
// of the weight's gradient (linear.cu) reads as well. `forward` reads patches and writes x, B N D elements, which is
// nearly all that moves: W, bias and position stay in level two.
//
// NAME_bf16_packed is for tensor cores and needs an even inner and a D that is a multiple of 8: 8 warps, each 32 tokens
// by 32 columns of one stretch of 256 columns. NAME_f32 and NAME_bf16 take any extents: 256 threads, 64 x 64.
#include "lib/mma.cuh"
#include "lib/pack.cuh"
#include "lib/patch.cuh"
#include "lib/plain.cuh"

template <class T>
DEVICE void gather(const float* z, const uint32_t* kept, T* patches, PatchGrid grid, uint32_t tokens, uint64_t count) {
    uint32_t area = grid.area(), inner = grid.channels * area;
    each(count, [&](uint64_t i) {
        uint32_t row = i / inner, column = i % inner, patch = kept ? kept[row] : row % tokens;
        uint64_t image = uint64_t(row / tokens) * grid.image();
        patches[i] = from_float<T>(z[image + grid.element(patch, column % area, column / area)]);
    });
}

// Fragments of one warp: 16 x 8 sums each, down and across.
constexpr int DOWN = 2, ACROSS = 4, STRETCH = 256;

extern "C" __global__ void __launch_bounds__(256) patch_embed_forward_bf16_packed(
    const bf16* __restrict__ patches, const bf16* __restrict__ w, const bf16* __restrict__ bias,
    const bf16* __restrict__ position, const uint32_t* __restrict__ kept, bf16* __restrict__ x, uint32_t tokens,
    uint32_t rows, uint32_t inner, uint32_t width) {
    uint32_t stretches = (width + STRETCH - 1) / STRETCH, group = threadIdx.x % WARP / 4, quad = threadIdx.x % 4;
    uint32_t row = blockIdx.x / stretches * DOWN * 16 + group;
    uint32_t column = blockIdx.x % stretches * STRETCH + threadIdx.x / WARP * ACROSS * 8;
    if (column >= width) return;
    // Two neighbouring elements of a row of `inner`; zeros outside.
    auto pair = [&](const bf16* from, uint32_t row, uint32_t rows, uint32_t term) {
        bool inside = row < rows && term < inner;
        return inside ? *reinterpret_cast<const uint32_t*>(from + size_t(row) * inner + term) : 0;
    };
    float sums[DOWN][ACROSS][4] = {};
    for (uint32_t term = quad * 2; term < inner + quad * 2; term += 16) {
        uint32_t a[DOWN][4], b[ACROSS][2];
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int part = 0; part < 4; part++)
                a[i][part] = pair(patches, row + i * 16 + part % 2 * 8, rows, term + part / 2 * 8);
#pragma unroll
        for (int j = 0; j < ACROSS; j++)
#pragma unroll
            for (int part = 0; part < 2; part++) b[j][part] = pair(w, column + j * 8 + group, width, term + part * 8);
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j++) mma(sums[i][j], a[i], b[j][0], b[j][1]);
    }
    // Of the four fragments across a lane has, once transposed, the eight columns from `chunk` on.
    uint32_t chunk = column + quad * 8;
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            // Transposed as f32, so that sums are rounded once: the first columns of all pairs, then the second.
            uint32_t first[4], second[4], token = row + i * 16 + half * 8;
#pragma unroll
            for (int j = 0; j < ACROSS; j++) {
                first[j] = __float_as_uint(sums[i][j][half * 2]);
                second[j] = __float_as_uint(sums[i][j][half * 2 + 1]);
            }
            transpose_quad(first);
            transpose_quad(second);
            if (token >= rows || chunk >= width) continue;
            uint32_t patch = kept ? kept[token] : token % tokens;
            Pack<bf16> added = load(bias + chunk), placed = load(position + size_t(patch) * width + chunk);
            float out[8];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                out[2 * j] = __uint_as_float(first[j]) + (added[2 * j] + placed[2 * j]);
                out[2 * j + 1] = __uint_as_float(second[j]) + (added[2 * j + 1] + placed[2 * j + 1]);
            }
            store(x + size_t(token) * width + chunk, rounded<bf16>(out));
        }
}

template <class T>
DEVICE void forward(const T* patches, const T* w, const T* bias, const T* position, const uint32_t* kept, T* x,
                    uint32_t tokens, uint32_t rows, uint32_t inner, uint32_t width) {
    plain_product<Contiguous::Sum, Contiguous::Sum>(
        patches, w, rows, width, inner, 0, inner, [&](uint32_t row, uint32_t column, float sum) {
            size_t patch = kept ? kept[row] : row % tokens;
            float added = to_float(bias[column]) + to_float(position[patch * width + column]);
            x[size_t(row) * width + column] = from_float<T>(sum + added);
        });
}

#define EITHER_TYPE(T, TYPE)                                                                                               \
    extern "C" __global__ void __launch_bounds__(256) patch_embed_gather_##TYPE(                                           \
        const float* __restrict__ z, const uint32_t* __restrict__ kept, T* __restrict__ patches, uint32_t channels,        \
        uint32_t height, uint32_t width, uint32_t patch, uint32_t tokens, uint64_t count) {                                \
        gather(z, kept, patches, {channels, height, width, patch}, tokens, count);                                         \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(256) patch_embed_forward_##TYPE(                                          \
        const T* __restrict__ patches, const T* __restrict__ w, const T* __restrict__ bias,                                \
        const T* __restrict__ position, const uint32_t* __restrict__ kept, T* __restrict__ x, uint32_t tokens,             \
        uint32_t rows, uint32_t inner, uint32_t width) {                                                                   \
        forward(patches, w, bias, position, kept, x, tokens, rows, inner, width);                                          \
    }
EITHER_TYPE(float, f32)
EITHER_TYPE(bf16, bf16)
