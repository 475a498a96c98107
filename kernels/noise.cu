// The random part of a training step, and what follows from it. `place` is (step, first): sample i of the batch draws from
// the streams of sample first + i of the global batch.
//
//   noise        t ~ uniform (0, 1), or sigmoid(mean + deviation n)                    t (B)
//                z = alpha x + sigma eps,  u = alpha' x + sigma' eps                   x, z, u (B, image) f32
//   drop_labels  y = null with probability `rate`, else the given label                (B) u32
//   keep_tokens  the k patches with the smallest (word, index), ascending              kept (B, k) u32
//
// Philox is recomputed where it is used, so noise reads x and writes z and u once: 12 bytes an element.
#include "lib/philox.cuh"

enum Path : uint32_t { LINEAR = 0 };
enum Times : uint32_t { UNIFORM = 0, LOGIT_NORMAL = 1 };

// (alpha, sigma, alpha', sigma') at t, in double: every user of a path rounds once.
__device__ float4 along(Path path, float t) {
    switch (path) {
        case LINEAR:
        default: return {float(1.0 - double(t)), t, -1.0f, 1.0f};
    }
}

__device__ float draw_time(Stream stream, Times times, float mean, float deviation) {
    if (times == UNIFORM) return uniform(stream.words(0).x);
    const float n = __fmaf_rn(deviation, stream.normals(0).x, mean);
    const float t = __fdiv_rn(1.0f, __fadd_rn(1.0f, exponential(-n)));
    return fminf(fmaxf(t, 1.1920929e-7f), 1.0f - 1.1920929e-7f);
}

// One thread per four elements; blockIdx.y is the sample.
extern "C" __global__ void noise(uint64_t seed, const uint32_t* place, Path path, Times times, float mean,
                                 float deviation, const float* x, float* t, float* z, float* u, float* count,
                                 float supervised, uint32_t image) {
    const uint32_t sample = blockIdx.y, step = place[0], global = place[1] + sample;
    const float time = draw_time({seed, global, step, TIME}, times, mean, deviation);
    const float4 at = along(path, time);
    const uint32_t block = blockIdx.x * blockDim.x + threadIdx.x;
    if (block == 0) {
        t[sample] = time;
        if (sample == 0) *count = supervised;
    }
    if (block * 4 >= image) return;
    const float4 drawn = Stream{seed, global, step, NOISE}.normals(block);
    const float eps[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
    for (uint32_t i = 0; i < 4 && block * 4 + i < image; i++) {
        const uint64_t e = uint64_t(sample) * image + block * 4 + i;
        z[e] = at.x * x[e] + at.y * eps[i];
        u[e] = at.z * x[e] + at.w * eps[i];
    }
}

extern "C" __global__ void drop_labels(uint64_t seed, const uint32_t* place, float rate, uint32_t null_label,
                                       const uint32_t* from, uint32_t* to, uint32_t batch) {
    const uint32_t sample = blockIdx.x * blockDim.x + threadIdx.x;
    if (sample >= batch) return;
    const Stream stream = {seed, place[1] + sample, place[0], LABEL_DROPOUT};
    to[sample] = uniform(stream.words(0).x) < rate ? null_label : from[sample];
}

// One block per sample. A patch is kept if fewer than k keys are smaller than its own, and its place is the number of kept
// patches before it: patches^2 comparisons in shared memory, which a step does not notice and no sort beats at these sizes.
extern "C" __global__ void keep_tokens(uint64_t seed, const uint32_t* place, uint32_t patches, uint32_t tokens,
                                       uint32_t* kept) {
    extern __shared__ uint32_t words[]; // the words of all patches, then whether each is kept
    uint32_t* stays = words + (patches + 3) / 4 * 4;
    const Stream stream = {seed, place[1] + blockIdx.x, place[0], TOKEN_MASK};
    for (uint32_t block = threadIdx.x; block * 4 < patches; block += blockDim.x) {
        reinterpret_cast<uint4*>(words)[block] = stream.words(block);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < patches; i += blockDim.x) {
        uint32_t smaller = 0;
        for (uint32_t j = 0; j < patches; j++) smaller += words[j] < words[i] || (words[j] == words[i] && j < i);
        stays[i] = smaller < tokens;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < patches; i += blockDim.x) {
        if (!stays[i]) continue;
        uint32_t before = 0;
        for (uint32_t j = 0; j < i; j++) before += stays[j];
        kept[blockIdx.x * tokens + before] = i;
    }
}
