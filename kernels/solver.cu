// The elementwise steps of samplers, on f32 images.
//
//   advance  out = z + step v              reads 2 arrays, writes 1
//   guide    v <- u + weight (v - u)       in the first `guided` of the `image` elements of each image; reads 2, writes 1
#include "lib/pack.cuh"

extern "C" __global__ void advance(const float* z, const float* v, float step, float* out, uint64_t count) {
    each(count, [&](uint64_t i) { out[i] = fmaf(step, v[i], z[i]); });
}

extern "C" __global__ void guide(float* v, const float* u, float weight, uint32_t guided, uint32_t image,
                                 uint64_t count) {
    each(count, [&](uint64_t i) {
        if (i % image < guided) v[i] = fmaf(weight, v[i] - u[i], u[i]);
    });
}
