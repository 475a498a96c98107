// One head of one image: where its rows lie, its tiles in shared memory, their fragments.

#pragma once
#include "../lib/copy.cuh"
#include "../lib/mma.cuh"

// Keeps the compiler from computing what follows from `x` earlier, and holding it in registers across a loop.
DEVICE void forget(uint32_t& x) { asm volatile("" : "+r"(x)); }

// The rows of one head of one image, in a (B, N, parts, H, K) array: row n at `rows + n * stride`.
template <class T>
struct Head {
    T* rows;
    uint32_t stride;

    DEVICE Head(T* array, uint32_t tokens, uint32_t width, uint32_t part, uint32_t parts, uint32_t image, uint32_t head,
                uint32_t heads) {
        stride = parts * heads * width;
        rows = array + size_t(image * tokens) * stride + (part * heads + head) * width;
    }
    // Of head blockIdx.y of image blockIdx.z.
    DEVICE Head(T* array, uint32_t tokens, uint32_t width, uint32_t part, uint32_t parts)
        : Head(array, tokens, width, part, parts, blockIdx.z, blockIdx.y, gridDim.y) {}
    DEVICE T* row(uint32_t n) const { return rows + size_t(n) * stride; }
};

// Where this head's statistics start in a (B, H, N) array.
DEVICE uint32_t statistics_of(uint32_t tokens) { return (blockIdx.z * gridDim.y + blockIdx.y) * tokens; }

// A tile in shared memory: rows of WIDTH elements an odd number of 16-byte chunks apart, so that the same chunk of eight
// rows lies in eight different groups of four banks.
template <int WIDTH>
struct Rows {
    static constexpr int CHUNKS = WIDTH / 8, PITCH = (CHUNKS | 1) * 16;
    // Products over or along the width go by 16; a width of 8 (2 n + 1) leaves one chunk.
    static constexpr int PAIRS = WIDTH / 16, REST = CHUNKS % 2;

    // Copies COUNT rows, `first` and on; rows from `rows` on become zeros. 128 threads, eight for each row; the chunks
    // beyond a multiple of eight come last, so that addresses are few.
    template <int COUNT>
    DEVICE static void copy(uint32_t to, const Head<const bf16>& from, uint32_t first, uint32_t rows) {
        if constexpr (CHUNKS >= 8) copy<COUNT, 0, CHUNKS / 8 * 8, 8>(to, from, first, rows);
        if constexpr (CHUNKS % 8) copy<COUNT, CHUNKS / 8 * 8, CHUNKS, CHUNKS % 8>(to, from, first, rows);
    }
    // Chunks BEGIN to END by LANES threads a row.
    template <int COUNT, int BEGIN, int END, int LANES>
    DEVICE static void copy(uint32_t to, const Head<const bf16>& from, uint32_t first, uint32_t rows) {
        constexpr uint32_t STEP = 128 / LANES;
        uint32_t thread = threadIdx.x, stride = from.stride;
        forget(thread), forget(stride);
        // Where fewer than eight threads take a row, eight neighbours take one chunk of eight rows.
        uint32_t row = LANES == 8 ? thread / 8 : thread % 8 + thread / (8 * LANES) * 8;
        uint32_t chunk = LANES == 8 ? thread % 8 : thread / 8 % LANES;
        const bf16* at = from.rows + size_t(first + row) * stride + chunk * 8;
        to += row * PITCH + chunk * 16;
#pragma unroll
        for (uint32_t i = 0; i < COUNT; i += STEP) {
            bool inside = first + row + i < rows;
            if (COUNT % STEP && row + i >= COUNT) continue;
#pragma unroll
            for (int c = BEGIN; c < END; c += LANES) copy16(to + i * PITCH + c * 16, at + c * 8, inside);
            at += STEP * stride;
        }
    }

    // This lane's row address of 16 rows by two chunks; as A, or transposed as B whose terms are the rows.
    DEVICE static uint32_t lane_by_rows() { return threadIdx.x % 16 * PITCH + threadIdx.x % WARP / 16 * 16; }
    // Of 16 rows by two chunks as B whose columns are the rows.
    DEVICE static uint32_t lane_by_columns() {
        uint32_t lane = threadIdx.x % WARP;
        return (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 16;
    }
    // Of 32 rows by the last chunk.
    DEVICE static uint32_t lane_of_rest() { return threadIdx.x % WARP * PITCH + (CHUNKS - 1) * 16; }
};

// 16 DOWN rows as A, all of the width; `x` is where they start.
template <int WIDTH, int DOWN>
struct Loaded {
    using R = Rows<WIDTH>;
    uint32_t pairs[DOWN][R::PAIRS][4], rest[DOWN][2];

    DEVICE void load(uint32_t x) {
#pragma unroll
        for (int i = 0; i < DOWN; i++) {
            uint32_t row = x + R::lane_by_rows() + i * 16 * R::PITCH;
#pragma unroll
            for (int k = 0; k < R::PAIRS; k++) load_matrices(pairs[i][k], row + k * 32);
            if (R::REST) load_matrices(rest[i], row + R::PAIRS * 32);
        }
    }
    DEVICE void pair(uint32_t (&a)[4], int i, int k) const {
#pragma unroll
        for (int e = 0; e < 4; e++) a[e] = pairs[i][k][e];
    }
    DEVICE void last(uint32_t (&a)[2], int i) const { a[0] = rest[i][0], a[1] = rest[i][1]; }
};

// The same, loaded anew at each use, for where registers are dearer than shared memory's time.
template <int WIDTH, int DOWN>
struct Stored {
    using R = Rows<WIDTH>;
    uint32_t row;

    DEVICE explicit Stored(uint32_t x) : row(x + R::lane_by_rows()) {}
    DEVICE void pair(uint32_t (&a)[4], int i, int k) const { load_matrices(a, row + i * 16 * R::PITCH + k * 32); }
    DEVICE void last(uint32_t (&a)[2], int i) const { load_matrices(a, row + i * 16 * R::PITCH + R::PAIRS * 32); }
};

// s += X U^T for 16 DOWN rows of X, `Loaded` or `Stored`, and 32 of U: the sums of the width.
template <int WIDTH, int DOWN, class X>
DEVICE void multiply_rows(float (&s)[DOWN][4][4], const X& x, uint32_t u) {
    using R = Rows<WIDTH>;
    uint32_t by_columns = u + R::lane_by_columns();
#pragma unroll
    for (int k = 0; k < R::PAIRS; k++) {
        uint32_t a[DOWN][4], b[2][4];
#pragma unroll
        for (int i = 0; i < DOWN; i++) x.pair(a[i], i, k);
#pragma unroll
        for (int j = 0; j < 2; j++) load_matrices(b[j], by_columns + j * 16 * R::PITCH + k * 32);
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) mma(s[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
    if constexpr (R::REST) {
        uint32_t b[4];
        load_matrices(b, u + R::lane_of_rest());
#pragma unroll
        for (int i = 0; i < DOWN; i++) {
            uint32_t a[2];
            x.last(a, i);
#pragma unroll
            for (int j = 0; j < 4; j++) mma(s[i][j], a, b[j]);
        }
    }
}

// o += P W for P of 16 DOWN x 32, rounded and packed, and 32 rows of W.
template <int WIDTH, int DOWN>
DEVICE void multiply_columns(float (&o)[DOWN][WIDTH / 8][4], const uint32_t (&p)[DOWN][2][4], uint32_t w) {
    using R = Rows<WIDTH>;
    uint32_t by_rows = w + R::lane_by_rows();
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int j = 0; j < R::PAIRS; j++) {
            uint32_t b[4];
            load_matrices_transposed(b, by_rows + k * 16 * R::PITCH + j * 32);
#pragma unroll
            for (int i = 0; i < DOWN; i++) {
                mma(o[i][2 * j], p[i][k], b[0], b[1]);
                mma(o[i][2 * j + 1], p[i][k], b[2], b[3]);
            }
        }
    if constexpr (R::REST) {
        uint32_t b[4];
        load_matrices_transposed(b, w + R::lane_of_rest());
#pragma unroll
        for (int i = 0; i < DOWN; i++) {
            mma(o[i][R::CHUNKS - 1], p[i][0], b[0], b[1]);
            mma(o[i][R::CHUNKS - 1], p[i][1], b[2], b[3]);
        }
    }
}

// Sums of 16 rows, or of 64 by four warps, rounded: for each 16 columns A of a product over them.
template <int FRAGMENTS>
DEVICE void pack_terms(uint32_t (&p)[FRAGMENTS / 2][4], const float (&s)[FRAGMENTS][4]) {
#pragma unroll
    for (int k = 0; k < FRAGMENTS / 2; k++)
#pragma unroll
        for (int e = 0; e < 4; e++) p[k][e] = pack_bf16(s[2 * k + e / 2][e % 2 * 2], s[2 * k + e / 2][e % 2 * 2 + 1]);
}

// Rows `row` and `row + 8` of o, times a factor each, to `to`; four fragments at a time by 16 bytes. All lanes take part.
template <int WIDTH>
DEVICE void store_rows(const Head<bf16>& to, uint32_t row, uint32_t rows, const float (&o)[WIDTH / 8][4], float first,
                       float second) {
    constexpr int CHUNKS = WIDTH / 8;
    uint32_t quad = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint32_t n = row + half * 8;
        float factor = half ? second : first;
        bf16* at = to.row(n);
#pragma unroll
        for (int j = 0; j + 4 <= CHUNKS; j += 4) {
            uint32_t w[4];
#pragma unroll
            for (int f = 0; f < 4; f++) w[f] = pack_bf16(o[j + f][2 * half] * factor, o[j + f][2 * half + 1] * factor);
            transpose_quad(w);
            if (n < rows) *reinterpret_cast<uint4*>(at + (j + quad) * 8) = {w[0], w[1], w[2], w[3]};
        }
#pragma unroll
        for (int j = CHUNKS / 4 * 4; j < CHUNKS; j++)
            if (n < rows)
                *reinterpret_cast<uint32_t*>(at + j * 8 + quad * 2) =
                    pack_bf16(o[j][2 * half] * factor, o[j][2 * half + 1] * factor);
    }
}

DEVICE float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

DEVICE float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// The running softmax of one row of scores, scaled to powers of two, and the sums it weighs.
struct Softmax {
    float top = -INFINITY, total = 0;
};
