// The random part of a training step, and what follows from it. `place` is (step, first): sample i of the batch draws from
// the streams of sample first + i of the global batch.
//
//   noise        t ~ uniform (0, 1), or sigmoid(mean + deviation n)                    t (B)
//                z = alpha x + sigma eps,  u = alpha' x + sigma' eps                   x, z, u (B, image) f32
//   drop_labels  y = null with probability `rate`, else the given label                (B) u32
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
                                 float deviation, const float* x, float* t, float* z, float* u, uint32_t image) {
    const uint32_t sample = blockIdx.y, step = place[0], global = place[1] + sample;
    const float time = draw_time({seed, global, step, TIME}, times, mean, deviation);
    const float4 at = along(path, time);
    const uint32_t block = blockIdx.x * blockDim.x + threadIdx.x;
    if (block == 0) t[sample] = time;
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
