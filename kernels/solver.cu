// The elementwise steps of samplers, on f32 images.
//
//   advance  out = z + step v              reads 2 arrays, writes 1
//   guide    v = u + weight (c - u)        in the first `guided` of the `image` elements of each image, v = c in the others and where
//                                          the image's weight is 1; reads 2, writes 1
//   denoise  out = of_x clip(x) + of_z z + of_p p + of_n n    with x = x_z z + x_p p and n ~ N(0, 1); reads 2, writes 1
#include "lib/pack.cuh"
#include "lib/philox.cuh"

extern "C" __global__ void advance(const float* z, const float* v, float step, float* out, uint64_t count) {
    each(count, [&](uint64_t i) { out[i] = fmaf(step, v[i], z[i]); });
}

// c and u are the halves of `pair`, `count` elements each.
extern "C" __global__ void guide(const float* pair, const float* weight, uint32_t guided, uint32_t image, float* v,
                                 uint64_t count) {
    each(count, [&](uint64_t i) {
        const float c = pair[i], u = pair[count + i], w = weight[i / image];
        v[i] = i % image < guided && w != 1.0f ? fmaf(w, c - u, u) : c;
    });
}

// One thread per four elements; blockIdx.y is the sample, number first + blockIdx.y of all. A NaN stays one.
extern "C" __global__ void denoise(const float* z, const float* p, float x_z, float x_p, float bound, float of_x, float of_z,
                                   float of_p, float of_n, uint64_t seed, uint32_t step, uint32_t first, float* out,
                                   uint32_t image) {
    const uint32_t block = blockIdx.x * blockDim.x + threadIdx.x;
    if (block * 4 >= image) return;
    float n[4] = {};
    if (of_n != 0.0f) {
        const float4 drawn = Stream{seed, first + blockIdx.y, step, SAMPLING}.normals(block);
        n[0] = drawn.x, n[1] = drawn.y, n[2] = drawn.z, n[3] = drawn.w;
    }
    for (uint32_t i = 0; i < 4 && block * 4 + i < image; i++) {
        const uint64_t at = uint64_t(blockIdx.y) * image + block * 4 + i;
        const float x = fmaf(x_z, z[at], x_p * p[at]);
        const float clipped = x < -bound ? -bound : x > bound ? bound : x;
        out[at] = fmaf(of_x, clipped, fmaf(of_z, z[at], fmaf(of_p, p[at], of_n * n[i])));
    }
}
