// linear: y = x W^T + b and its gradients.
//
//   y[r,c]   = sum_i x[r,i] W[c,i] + b[c]
//   dx[r,i]  = sum_c dy[r,c] W[c,i]
//   dW[c,i]  = sum_r dy[r,c] x[r,i]        db[c] = sum_r dy[r,c]
//
//   x, dx (rows, inner) T      W (width, inner) T      b (width) T      y, dy (rows, width) T
//   dW (width, inner) f32      db (width) f32
//
// `add` adds to a gradient instead of setting it. gridDim.y CTAs share the terms of one tile's sums, each writing an f32
// part; `reduce` sums the parts in their order. db rides in the product of dW: see RowSums.
// Traffic: forward and dx rows (inner + width) + width inner elements, dW and db the same and 4 bytes for each of theirs;
// 2 rows inner width flops each.
//
// NAME_bf16_ROWSxCOLUMNS are for tensor cores and need inner and width to be multiples of 8; of them 128x192 is Hopper's, takes
// tensor maps for its operands, and each of its CTAs tile after tile. NAME_f32 and NAME_bf16 take any extents: 256 threads,
// 64 x 64.
#include "lib/epilogue.cuh"
#include "lib/plain.cuh"
#include "lib/stream.cuh"

struct Terms {
    uint32_t first, last;
};

// The terms of part blockIdx.y of gridDim.y: whole stages.
DEVICE Terms part_of(uint32_t terms, uint32_t depth) {
    uint32_t stages = (terms + depth - 1) / depth, each = (stages + gridDim.y - 1) / gridDim.y * depth;
    return {min(blockIdx.y * each, terms), min((blockIdx.y + 1) * each, terms)};
}

template <class TILE>
DEVICE void forward(const bf16* x, const bf16* w, const bf16* b, bf16* y, uint32_t rows, uint32_t inner, uint32_t width) {
    Place tile = place<TILE>(blockIdx.x, rows, width);
    Sums<TILE> sums;
    NoRowSums none;
    product<TILE, Contiguous::Sum, Contiguous::Sum>(sums, none, x, w, tile.row * TILE::ROWS, tile.column * TILE::COLUMNS,
                                                    rows, width, inner, 0, inner);
    store_bias(sums, tile, b, y, rows, width);
}

template <class TILE>
DEVICE void input_gradient(const bf16* dy, const bf16* w, bf16* dx, float* parts, uint32_t rows, uint32_t inner,
                           uint32_t width, bool add) {
    Place tile = place<TILE>(blockIdx.x, rows, inner);
    Terms terms = part_of(width, TILE::DEPTH);
    Sums<TILE> sums;
    NoRowSums none;
    product<TILE, Contiguous::Sum, Contiguous::Output>(sums, none, dy, w, tile.row * TILE::ROWS,
                                                       tile.column * TILE::COLUMNS, rows, inner, width, terms.first,
                                                       terms.last);
    if (gridDim.y == 1)
        store(sums, tile, dx, rows, inner, add);
    else
        store(sums, tile, parts + size_t(blockIdx.y) * rows * inner, rows, inner, false);
}

// `bias_parts`: (gridDim.y, tiles across, width).
template <class TILE>
DEVICE void weight_gradient(const bf16* dy, const bf16* x, float* dw, float* bias_parts, uint32_t rows, uint32_t inner,
                            uint32_t width, bool add) {
    Place tile = place<TILE>(blockIdx.x, width, inner);
    Terms terms = part_of(rows, TILE::DEPTH);
    Sums<TILE> sums;
    RowSums<TILE> bias;
    bias.parts = (inner + TILE::COLUMNS - 1) / TILE::COLUMNS, bias.wait = tile.column;
    product<TILE, Contiguous::Output, Contiguous::Output>(sums, bias, dy, x, tile.row * TILE::ROWS,
                                                          tile.column * TILE::COLUMNS, width, inner, rows, terms.first,
                                                          terms.last);
    store(sums, tile, dw + size_t(blockIdx.y) * width * inner, width, inner, add);
    store_row_sums(bias, tile, bias_parts + size_t(blockIdx.y * bias.parts + tile.column) * width, width);
}

#define KERNEL(TILE) extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::CTAS)

#define FORWARD(TILE)                                                                                                 \
    KERNEL(TILE) linear_forward_bf16_##TILE(const bf16* __restrict__ x, const bf16* __restrict__ w,                   \
                                            const bf16* __restrict__ b, bf16* __restrict__ y, uint32_t rows,          \
                                            uint32_t inner, uint32_t width) {                                         \
        forward<Tile##TILE>(x, w, b, y, rows, inner, width);                                                          \
    }
FORWARD(256x128)
FORWARD(128x128)
FORWARD(32x128)

#define INPUT_GRADIENT(TILE)                                                                                          \
    KERNEL(TILE) linear_input_gradient_bf16_##TILE(const bf16* __restrict__ dy, const bf16* __restrict__ w,           \
                                                   bf16* __restrict__ dx, float* __restrict__ parts, uint32_t rows,   \
                                                   uint32_t inner, uint32_t width, uint32_t add) {                    \
        input_gradient<Tile##TILE>(dy, w, dx, parts, rows, inner, width, add);                                        \
    }
INPUT_GRADIENT(256x128)
INPUT_GRADIENT(128x128)
INPUT_GRADIENT(32x128)

#define WEIGHT_GRADIENT(TILE)                                                                                         \
    KERNEL(TILE) linear_weight_gradient_bf16_##TILE(const bf16* __restrict__ dy, const bf16* __restrict__ x,          \
                                                    float* __restrict__ dw, float* __restrict__ bias_parts,           \
                                                    uint32_t rows, uint32_t inner, uint32_t width, uint32_t add) {    \
        weight_gradient<Tile##TILE>(dy, x, dw, bias_parts, rows, inner, width, add);                                  \
    }
WEIGHT_GRADIENT(256x128)
WEIGHT_GRADIENT(128x128)

#ifdef HOPPER

#define STREAM \
    extern "C" __global__ void __cluster_dims__(StreamPair::CTAS, 1, 1) __launch_bounds__(Stream128x192::THREADS, 1)

STREAM linear_forward_bf16_128x192(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w,
                                   const bf16* __restrict__ b, bf16* __restrict__ y, uint32_t rows, uint32_t inner,
                                   uint32_t width) {
    stream_product<Contiguous::Sum, Contiguous::Sum>(
        x, w, rows, width, 0, inner, Nobody(),
        [&](const StreamSums& sums, Place tile) { store_bias(sums, tile, b, y, rows, width); });
}

STREAM linear_input_gradient_bf16_128x192(const __grid_constant__ CUtensorMap dy, const __grid_constant__ CUtensorMap w,
                                          bf16* __restrict__ dx, float* __restrict__ parts, uint32_t rows, uint32_t inner,
                                          uint32_t width, uint32_t add) {
    Terms terms = part_of(width, Stream128x192::DEPTH);
    stream_product<Contiguous::Sum, Contiguous::Output>(
        dy, w, rows, inner, terms.first, terms.last, Nobody(), [&](const StreamSums& sums, Place tile) {
            if (gridDim.y == 1)
                store(sums, tile, dx, rows, inner, add);
            else
                store(sums, tile, parts + size_t(blockIdx.y) * rows * inner, rows, inner, false);
        });
}

STREAM linear_weight_gradient_bf16_128x192(const __grid_constant__ CUtensorMap dy, const __grid_constant__ CUtensorMap x,
                                           float* __restrict__ dw, float* __restrict__ bias_parts, uint32_t rows,
                                           uint32_t inner, uint32_t width, uint32_t add) {
    Terms terms = part_of(rows, Stream128x192::DEPTH);
    uint32_t across = (inner + Stream128x192::COLUMNS - 1) / Stream128x192::COLUMNS;
    RowWatch bias{bias_parts + size_t(blockIdx.y) * across * width, across, width};
    stream_product<Contiguous::Output, Contiguous::Output>(
        dy, x, width, inner, terms.first, terms.last, bias, [&](const StreamSums& sums, Place tile) {
            store(sums, tile, dw + size_t(blockIdx.y) * width * inner, width, inner, add);
        });
}

#endif

template <class T>
DEVICE void plain_forward(const T* x, const T* w, const T* b, T* y, uint32_t rows, uint32_t inner, uint32_t width) {
    auto store = [&](uint32_t r, uint32_t c, float sum) { y[size_t(r) * width + c] = from_float<T>(sum + (b ? to_float(b[c]) : 0.f)); };
    plain_product<Contiguous::Sum, Contiguous::Sum>(x, w, rows, width, inner, 0, inner, store);
}

template <class T>
DEVICE void plain_input_gradient(const T* dy, const T* w, T* dx, float* parts, uint32_t rows, uint32_t inner,
                                 uint32_t width, bool add) {
    Terms terms = part_of(width, PLAIN_DEPTH);
    auto store = [&](uint32_t r, uint32_t c, float sum) {
        size_t at = size_t(r) * inner + c;
        if (gridDim.y == 1)
            dx[at] = from_float<T>(add ? to_float(dx[at]) + sum : sum);
        else
            parts[size_t(blockIdx.y) * rows * inner + at] = sum;
    };
    plain_product<Contiguous::Sum, Contiguous::Output>(dy, w, rows, inner, width, terms.first, terms.last, store);
}

// `bias_parts`: (gridDim.y, width).
template <class T>
DEVICE void plain_weight_gradient(const T* dy, const T* x, float* dw, float* bias_parts, uint32_t rows, uint32_t inner,
                                  uint32_t width, bool add) {
    Terms terms = part_of(rows, PLAIN_DEPTH);
    float* part = dw + size_t(blockIdx.y) * width * inner;
    auto store = [&](uint32_t r, uint32_t c, float sum) {
        float& to = part[size_t(r) * inner + c];
        to = add ? to + sum : sum;
    };
    float bias = plain_product<Contiguous::Output, Contiguous::Output>(dy, x, width, inner, rows, terms.first,
                                                                       terms.last, store);
    uint32_t across = (inner + PLAIN_TILE - 1) / PLAIN_TILE, row = blockIdx.x / across * PLAIN_TILE + threadIdx.x;
    if (blockIdx.x % across == 0 && threadIdx.x < PLAIN_TILE && row < width)
        bias_parts[size_t(blockIdx.y) * width + row] = bias;
}

#define PLAIN(T, TYPE)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        linear_forward_##TYPE(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b,              \
                              T* __restrict__ y, uint32_t rows, uint32_t inner, uint32_t width) {                     \
        plain_forward(x, w, b, y, rows, inner, width);                                                                \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256) linear_input_gradient_##TYPE(                                   \
        const T* __restrict__ dy, const T* __restrict__ w, T* __restrict__ dx, float* __restrict__ parts,             \
        uint32_t rows, uint32_t inner, uint32_t width, uint32_t add) {                                                \
        plain_input_gradient(dy, w, dx, parts, rows, inner, width, add);                                              \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256) linear_weight_gradient_##TYPE(                                  \
        const T* __restrict__ dy, const T* __restrict__ x, float* __restrict__ dw, float* __restrict__ bias_parts,    \
        uint32_t rows, uint32_t inner, uint32_t width, uint32_t add) {                                                \
        plain_weight_gradient(dy, x, dw, bias_parts, rows, inner, width, add);                                        \
    }
PLAIN(float, f32)
PLAIN(bf16, bf16)

// out[i] = or += the sum of `parts` rows of `count`, in their order. A thread takes one element and every blockDim.y-th
// part, so that few elements of many parts are read by many threads; 256 threads in all.
template <class T>
DEVICE void reduce(const float* rows, T* out, uint32_t parts, uint32_t count, bool add) {
    __shared__ float shared[256];
    uint32_t column = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0;
    if (column < count)
#pragma unroll 4
        for (uint32_t part = threadIdx.y; part < parts; part += blockDim.y) sum += rows[size_t(part) * count + column];
    shared[threadIdx.y * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= count) return;
    for (uint32_t y = 1; y < blockDim.y; y++) sum += shared[y * blockDim.x + threadIdx.x];
    out[column] = from_float<T>(add ? to_float(out[column]) + sum : sum);
}

#define REDUCE(T, TYPE)                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        linear_reduce_##TYPE(const float* __restrict__ rows, T* __restrict__ out, uint32_t parts, uint32_t count,     \
                             uint32_t add) {                                                                          \
        reduce(rows, out, parts, count, add);                                                                         \
    }
REDUCE(float, f32)
REDUCE(bf16, bf16)
