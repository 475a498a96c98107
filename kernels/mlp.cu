// mlp: what its products do beyond those of linear. y = gelu(x W1^T + b1) W2^T + b2.
//
//   forward     p = x W1^T + b1      active = gelu(p)      slope = gelu'(p)
//   backward    dp = (dy W2) slope                          db1[f] = sum_r dp[r,f]
//
//   x (rows, inner) T      W1 (width, inner) T      b1 (width) T      active, slope, dp (rows, width) T
//   dy (rows, inner) T     W2 (inner, width) T      db1 (width) f32, in parts: one for each tile of rows
//
// Here `width` is the hidden one. The second product of forward, y = active W2^T + b2, and the gradients of W1, W2, b2 and
// x are linear's; `linear_reduce_f32` sums the parts of db1.
// p itself is not stored: backward wants gelu(p) as a factor and gelu'(p), and both are known here for one exponential. So
// backward takes none, and no pass computes gelu(p) again: forward writes 2 rows width elements and backward reads each
// once, 4 in all; with p stored and gelu(p) made again from it they would be 5.
// Traffic: forward rows (inner + 2 width) + width inner elements; backward rows (inner + 2 width) + width inner.
#include "lib/epilogue.cuh"
#include "lib/math.cuh"
#include "lib/plain.cuh"

template <class TILE>
DEVICE void forward(const bf16* x, const bf16* w, const bf16* b, bf16* active, bf16* slope, uint32_t rows, uint32_t inner,
                    uint32_t width) {
    Place tile = place<TILE>(blockIdx.x, rows, width);
    Sums<TILE> sums;
    NoRowSums none;
    product<TILE, Contiguous::Sum, Contiguous::Sum>(sums, none, x, w, tile.row * TILE::ROWS, tile.column * TILE::COLUMNS,
                                                    rows, width, inner, 0, inner);
    Corner<TILE> corner(tile);
    Bias<TILE> bias(b, corner, width);
    for_each_row(corner, rows, width, [&](int i, int half, int j, size_t at, bool inside) {
        uint32_t values[4], slopes[4];
#pragma unroll
        for (int f = 0; f < 4; f++) {
            const float* s = sums.at[i][j + f] + 2 * half;
            Gelu first = gelu(s[0] + bias.at[j + f].x), second = gelu(s[1] + bias.at[j + f].y);
            values[f] = pack(first.value, second.value), slopes[f] = pack(first.slope, second.slope);
        }
        store_row(active + at, values, inside);
        store_row(slope + at, slopes, inside);
    });
}

// `bias_parts`: (tiles down, width).
template <class TILE>
DEVICE void backward(const bf16* dy, const bf16* w, const bf16* slope, bf16* dp, float* bias_parts, uint32_t rows,
                     uint32_t inner, uint32_t width) {
    Place tile = place<TILE>(blockIdx.x, rows, width);
    Sums<TILE> sums;
    NoRowSums none;
    product<TILE, Contiguous::Sum, Contiguous::Output>(sums, none, dy, w, tile.row * TILE::ROWS,
                                                       tile.column * TILE::COLUMNS, rows, width, inner, 0, inner);
    Corner<TILE> corner(tile);
    float2 columns[TILE::WARP_COLUMNS / 8] = {};
    for_each_row(corner, rows, width, [&](int i, int half, int j, size_t at, bool inside) {
        uint32_t w[4];
        load_row(w, slope + at, inside);
        // Rows beyond the last repeat it in the sums.
        bool exists = corner.row_of(i, half) < rows;
#pragma unroll
        for (int f = 0; f < 4; f++) {
            const float* s = sums.at[i][j + f] + 2 * half;
            float2 scale = unpack(w[f]), value = {s[0] * scale.x, s[1] * scale.y};
            w[f] = pack(value.x, value.y);
            columns[j + f].x += exists ? value.x : 0.f, columns[j + f].y += exists ? value.y : 0.f;
        }
        store_row(dp + at, w, inside);
    });
    store_column_sums<TILE>(columns, tile, bias_parts + size_t(tile.row) * width, width);
}

#define TENSOR(TILE)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::CTAS) mlp_forward_bf16_##TILE(           \
        const bf16* __restrict__ x, const bf16* __restrict__ w, const bf16* __restrict__ b, bf16* __restrict__ active,     \
        bf16* __restrict__ slope, uint32_t rows, uint32_t inner, uint32_t width) {                                         \
        forward<Tile##TILE>(x, w, b, active, slope, rows, inner, width);                                                   \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::CTAS) mlp_backward_bf16_##TILE(          \
        const bf16* __restrict__ dy, const bf16* __restrict__ w, const bf16* __restrict__ slope, bf16* __restrict__ dp,    \
        float* __restrict__ bias_parts, uint32_t rows, uint32_t inner, uint32_t width) {                                   \
        backward<Tile##TILE>(dy, w, slope, dp, bias_parts, rows, inner, width);                                            \
    }
TENSOR(256x128)
TENSOR(128x128)
TENSOR(32x128)

#define PLAIN(T, TYPE)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(256)                                                                      \
        mlp_forward_##TYPE(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b,                      \
                           T* __restrict__ active, T* __restrict__ slope, uint32_t rows, uint32_t inner, uint32_t width) { \
        plain_product<Contiguous::Sum, Contiguous::Sum>(                                                                   \
            x, w, rows, width, inner, 0, inner, [&](uint32_t r, uint32_t c, float sum) {                                   \
                Gelu g = gelu(sum + to_f32(b[c]));                                                                         \
                active[size_t(r) * width + c] = from_f32<T>(g.value);                                                      \
                slope[size_t(r) * width + c] = from_f32<T>(g.slope);                                                       \
            });                                                                                                            \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(256) mlp_backward_##TYPE(                                                 \
        const T* __restrict__ dy, const T* __restrict__ w, const T* __restrict__ slope, T* __restrict__ dp,                \
        float* __restrict__ bias_parts, uint32_t rows, uint32_t inner, uint32_t width) {                                   \
        __shared__ float columns[PLAIN_TILE][PLAIN_TILE + 1];                                                              \
        uint32_t across = (width + PLAIN_TILE - 1) / PLAIN_TILE;                                                           \
        plain_product<Contiguous::Sum, Contiguous::Output>(                                                                \
            dy, w, rows, width, inner, 0, inner, [&](uint32_t r, uint32_t c, float sum) {                                  \
                size_t at = size_t(r) * width + c;                                                                         \
                float value = sum * to_f32(slope[at]);                                                                     \
                dp[at] = from_f32<T>(value);                                                                               \
                columns[r % PLAIN_TILE][c % PLAIN_TILE] = value;                                                           \
            });                                                                                                            \
        __syncthreads();                                                                                                   \
        uint32_t tile = blockIdx.x / across, column = blockIdx.x % across * PLAIN_TILE + threadIdx.x;                      \
        if (threadIdx.x >= PLAIN_TILE || column >= width) return;                                                          \
        float total = 0;                                                                                                   \
        for (uint32_t r = 0; r < min(uint32_t(PLAIN_TILE), rows - tile * PLAIN_TILE); r++)                                 \
            total += columns[r][threadIdx.x];                                                                              \
        bias_parts[size_t(tile) * width + column] = total;                                                                 \
    }
PLAIN(float, f32)
PLAIN(bf16, bf16)
