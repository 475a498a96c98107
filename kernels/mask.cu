// What a step leaves out: tokens, and elements of the loss. `place` is (step, first): sample i of the batch draws from the
// streams of sample first + i of the global batch.
//
//   keep_tokens  the patches of the k windows with the smallest (word, index), ascending          kept (B, N) u32
//   thin_loss    0 where the word of the element, pixel or block is below threshold, else 1      supervised (B, image) f32
//   count_loss   the supervised elements of the kept patches of each image                        counts (B) u32
//   weigh        importance / (what the squared errors of a sample are divided by), 0 where nothing is     weight (B) f32
//
// Each of `supervised` is written once and read once, 4 bytes; the rest is small.
#include "lib/patch.cuh"
#include "lib/philox.cuh"

constexpr uint32_t THREADS = 256;

// Word number i of a stream.
__device__ uint32_t word(Stream stream, uint32_t i) {
    const uint4 words = stream.words(i / 4);
    return i % 4 < 2 ? (i % 2 ? words.y : words.x) : (i % 2 ? words.w : words.z);
}

// One block per sample. A window is kept if fewer than k keys are smaller than its own, and the place of a patch is the
// number of kept patches before it: windows^2 and patches^2 comparisons in shared memory, which a step does not notice and
// no sort beats at these sizes.
extern "C" __global__ void keep_tokens(uint64_t seed, const uint32_t* place, uint32_t side, uint32_t stride,
                                       uint32_t windows, uint32_t across, uint32_t chosen, uint32_t patches,
                                       uint32_t columns, uint32_t* kept) {
    extern __shared__ uint32_t words[]; // the words of all windows, then whether each patch is kept
    uint32_t* stays = words + (windows + 3) / 4 * 4;
    const Stream stream = {seed, place[1] + blockIdx.x, place[0], TOKEN_MASK};
    for (uint32_t block = threadIdx.x; block * 4 < windows; block += blockDim.x) {
        reinterpret_cast<uint4*>(words)[block] = stream.words(block);
    }
    for (uint32_t i = threadIdx.x; i < patches; i += blockDim.x) stays[i] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < windows; i += blockDim.x) {
        uint32_t smaller = 0;
        for (uint32_t j = 0; j < windows; j++) smaller += words[j] < words[i] || (words[j] == words[i] && j < i);
        if (smaller >= chosen) continue;
        const uint32_t first = i / across * stride * columns + i % across * stride;
        for (uint32_t j = 0; j < side * side; j++) stays[first + j / side * columns + j % side] = 1;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < patches; i += blockDim.x) {
        if (!stays[i]) continue;
        uint32_t before = 0;
        for (uint32_t j = 0; j < i; j++) before += stays[j];
        kept[blockIdx.x * chosen * side * side + before] = i;
    }
}

// One thread per element; blockIdx.y is the sample. With `alone` every element has a word, else every block of pixels.
extern "C" __global__ void thin_loss(uint64_t seed, const uint32_t* place, const uint32_t* threshold, uint32_t side,
                                     uint32_t alone, uint32_t height, uint32_t width, uint32_t image,
                                     float* supervised) {
    const uint32_t element = blockIdx.x * blockDim.x + threadIdx.x, pixel = element % (height * width);
    if (element >= image) return;
    const uint32_t block = pixel / width / side * ((width + side - 1) / side) + pixel % width / side;
    const Stream stream = {seed, place[1] + blockIdx.y, place[0], LOSS_MASK};
    const uint32_t drawn = word(stream, alone ? element : block);
    supervised[uint64_t(blockIdx.y) * image + element] = drawn < *threshold ? 0.0f : 1.0f;
}

// The sum over a block of THREADS threads, in all of them.
__device__ uint64_t block_sum(uint64_t x) {
    __shared__ uint64_t sums[THREADS];
    sums[threadIdx.x] = x;
    __syncthreads();
    for (uint32_t half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

// One block of THREADS threads per sample.
extern "C" __global__ void count_loss(const float* supervised, const uint32_t* kept, uint32_t channels, uint32_t height,
                                      uint32_t width, uint32_t patch, uint32_t tokens, uint32_t* counts) {
    const PatchGrid grid = {channels, height, width, patch};
    const uint32_t inner = grid.area() * channels;
    const float* image = supervised + uint64_t(blockIdx.x) * grid.image();
    uint32_t count = 0;
    for (uint32_t i = threadIdx.x; i < tokens * inner; i += blockDim.x) {
        const uint32_t n = i / inner, at = kept ? kept[blockIdx.x * tokens + n] : n;
        count += image[grid.element(at, i % inner / channels, i % channels)] > 0.0f;
    }
    const uint64_t sum = block_sum(count);
    if (threadIdx.x == 0) counts[blockIdx.x] = uint32_t(sum);
}

// One block of THREADS threads. Without `counts` every sample has `all` elements.
extern "C" __global__ void weigh(const uint32_t* counts, const float* importance, uint32_t all, uint32_t by_sample,
                                 uint32_t batch, float* weight) {
    uint64_t own = 0;
    for (uint32_t i = threadIdx.x; i < batch; i += blockDim.x) own += counts ? counts[i] : all;
    const float total = __ull2float_rn(block_sum(own));
    for (uint32_t i = threadIdx.x; i < batch; i += blockDim.x) {
        const float count = __uint2float_rn(counts ? counts[i] : all);
        const float divisor = by_sample ? __fmul_rn(float(batch), count) : total;
        weight[i] = divisor > 0.0f ? __fdiv_rn(importance[i], divisor) : 0.0f;
    }
}
