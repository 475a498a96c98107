// The masked squared error and its gradient, in one pass over the prediction.
//
//   e    = v[b, n, (p q c)] - u[b, c, i P + p, j P + q]      token n keeps the patch (i, j); c < C
//   loss = sum_b,n,p,q,c  w[b] m e^2
//   v   <- 2 w[b] m e                                        over v; 0 in the columns c >= C
//
// v (B, N, P P outputs) of either type, outputs >= C; u and the mask m (1 = supervised) images (B, C, H, W) f32, w (B) f32. Reads
// v and u once (and m), writes v. One warp per token: its sum goes to `sums`, which one block adds in double and in order.
#include "lib/patch.cuh"
#include "lib/reduce.cuh"

constexpr int WARPS = 8;

template <class T>
__device__ void masked_loss(T* v, const float* u, const float* mask, const uint32_t* kept, const float* weight,
                            float* sums, PatchGrid grid, uint32_t outputs, uint32_t tokens, uint32_t rows) {
    const uint32_t row = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const float scale = weight[row / tokens];
    const uint32_t patch = kept ? kept[row] : row % tokens, width = grid.area() * outputs;
    const uint64_t image = uint64_t(row / tokens) * grid.image();
    T* token = v + uint64_t(row) * width;
    float sum = 0.0f;
    for (uint32_t column = lane; column < width; column += 32) {
        const uint32_t channel = column % outputs;
        float gradient = 0.0f;
        if (channel < grid.channels) {
            const uint64_t at = image + grid.element(patch, column / outputs, channel);
            const float m = mask ? mask[at] * scale : scale, e = to_float(token[column]) - u[at];
            sum += m * e * e;
            gradient = 2.0f * m * e;
        }
        token[column] = from_float<T>(gradient);
    }
    sum = warp_sum(sum);
    if (lane == 0) sums[row] = sum;
}

#define MASKED_LOSS(T, NAME)                                                                                            \
    extern "C" __global__ void NAME(T* v, const float* u, const float* mask, const uint32_t* kept, const float* weight, \
                                    float* sums, uint32_t channels, uint32_t height, uint32_t width, uint32_t patch,    \
                                    uint32_t outputs, uint32_t tokens, uint32_t rows) {                                 \
        masked_loss(v, u, mask, kept, weight, sums, {channels, height, width, patch}, outputs, tokens, rows);            \
    }

MASKED_LOSS(float, masked_loss_f32)
MASKED_LOSS(bf16, masked_loss_bf16)

// The sum of the rows, by one block of 256 threads: each adds a stretch in order, then the stretches are added in order.
extern "C" __global__ void sum_rows(const float* sums, float* loss, uint32_t rows) {
    __shared__ double parts[256];
    const uint32_t stretch = (rows + 255) / 256, first = threadIdx.x * stretch;
    double sum = 0.0;
    for (uint32_t i = first; i < first + stretch && i < rows; i++) sum += sums[i];
    parts[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x > 0) return;
    sum = 0.0;
    for (int i = 0; i < 256; i++) sum += parts[i];
    *loss = float(sum);
}
