// The random part of a training step, and what follows from it. `place` is (step, first): sample i of the batch draws from
// the streams of sample first + i of the global batch.
//
//   noise        z = alpha x + sigma eps,  u = a x + b eps                             x, z, u (B, image) f32, t (B)
//   drop_labels  y = null with probability `rate`, else the given label                (B) u32
//
// `along` (B, 5) says of each sample what the network is told of its time, alpha, sigma, a and b: the host knows the path.
//
// Philox is recomputed where it is used, so noise reads x and writes z and u once: 12 bytes an element.
#include "lib/philox.cuh"

// One thread per four elements; blockIdx.y is the sample.
extern "C" __global__ void noise(uint64_t seed, const uint32_t* place, const float* along, const float* x, float* t,
                                 float* z, float* u, uint32_t image) {
    const uint32_t sample = blockIdx.y, step = place[0], global = place[1] + sample;
    const float* at = along + 5 * sample;
    const float alpha = at[1], sigma = at[2], of_x = at[3], of_eps = at[4];
    const uint32_t block = blockIdx.x * blockDim.x + threadIdx.x;
    if (block == 0) t[sample] = at[0];
    if (block * 4 >= image) return;
    const float4 drawn = Stream{seed, global, step, NOISE}.normals(block);
    const float eps[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
    for (uint32_t i = 0; i < 4 && block * 4 + i < image; i++) {
        const uint64_t e = uint64_t(sample) * image + block * 4 + i;
        z[e] = alpha * x[e] + sigma * eps[i];
        u[e] = of_x * x[e] + of_eps * eps[i];
    }
}

extern "C" __global__ void drop_labels(uint64_t seed, const uint32_t* place, float rate, uint32_t null_label,
                                       const uint32_t* from, uint32_t* to, uint32_t batch) {
    const uint32_t sample = blockIdx.x * blockDim.x + threadIdx.x;
    if (sample >= batch) return;
    const Stream stream = {seed, place[1] + sample, place[0], LABEL_DROPOUT};
    to[sample] = uniform(stream.words(0).x) < rate ? null_label : from[sample];
}
