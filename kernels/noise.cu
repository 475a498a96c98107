// The random part of a training step, and what follows from it. `place` is (step, first): sample i of the batch draws from
// the streams of sample first + i of the global batch.
//
//   noise        t ~ uniform (0, 1), or sigmoid(mean + deviation n)                    t (B)
//                z = alpha x + sigma eps,  u = a x + b eps                             x, z, u (B, image) f32
//   drop_labels  y = null with probability `rate`, else the given label                (B) u32
//
// Without a schedule the path is alpha = 1 - t, sigma = t, and u its velocity, x or eps. With one, (T, 5), step i of T is where
// i / T <= t < (i + 1) / T, and its row is (the time that the network is told, alpha, sigma, a, b).
//
// Philox is recomputed where it is used, so noise reads x and writes z and u once: 12 bytes an element.
#include "lib/philox.cuh"

enum Prediction : uint32_t { V = 0, X = 1, EPS = 2 };
enum Times : uint32_t { UNIFORM = 0, LOGIT_NORMAL = 1 };

struct Weights {
    float told, alpha, sigma, x, eps;
};

// Each is rounded once.
__device__ Weights along(const float* schedule, uint32_t steps, Prediction prediction, float t) {
    if (schedule) {
        const float* row = schedule + 5 * min(uint32_t(__fmul_rn(t, float(steps))), steps - 1);
        return {row[0], row[1], row[2], row[3], row[4]};
    }
    const float x = prediction == V ? -1.0f : prediction == X ? 1.0f : 0.0f;
    return {t, float(1.0 - double(t)), t, x, prediction == X ? 0.0f : 1.0f};
}

__device__ float draw_time(Stream stream, Times times, float mean, float deviation) {
    if (times == UNIFORM) return uniform(stream.words(0).x);
    const float n = __fmaf_rn(deviation, stream.normals(0).x, mean);
    const float t = __fdiv_rn(1.0f, __fadd_rn(1.0f, exponential(-n)));
    return fminf(fmaxf(t, 1.1920929e-7f), 1.0f - 1.1920929e-7f);
}

// One thread per four elements; blockIdx.y is the sample.
extern "C" __global__ void noise(uint64_t seed, const uint32_t* place, Prediction prediction, const float* schedule,
                                 uint32_t steps, Times times, float mean, float deviation, const float* x, float* t,
                                 float* z, float* u, uint32_t image) {
    const uint32_t sample = blockIdx.y, step = place[0], global = place[1] + sample;
    const float time = draw_time({seed, global, step, TIME}, times, mean, deviation);
    const Weights at = along(schedule, steps, prediction, time);
    const uint32_t block = blockIdx.x * blockDim.x + threadIdx.x;
    if (block == 0) t[sample] = at.told;
    if (block * 4 >= image) return;
    const float4 drawn = Stream{seed, global, step, NOISE}.normals(block);
    const float eps[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
    for (uint32_t i = 0; i < 4 && block * 4 + i < image; i++) {
        const uint64_t e = uint64_t(sample) * image + block * 4 + i;
        z[e] = at.alpha * x[e] + at.sigma * eps[i];
        u[e] = at.x * x[e] + at.eps * eps[i];
    }
}

extern "C" __global__ void drop_labels(uint64_t seed, const uint32_t* place, float rate, uint32_t null_label,
                                       const uint32_t* from, uint32_t* to, uint32_t batch) {
    const uint32_t sample = blockIdx.x * blockDim.x + threadIdx.x;
    if (sample >= batch) return;
    const Stream stream = {seed, place[1] + sample, place[0], LABEL_DROPOUT};
    to[sample] = uniform(stream.words(0).x) < rate ? null_label : from[sample];
}
