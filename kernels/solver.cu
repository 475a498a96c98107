// The elementwise steps of samplers, on f32 images.
//
//   advance  out = z + step v              reads 2 arrays, writes 1
//   guide    v = u + weight (c - u)        in the first `guided` of the `image` elements of each image, else v = c; reads 2, writes 1
#include "lib/pack.cuh"

extern "C" __global__ void advance(const float* z, const float* v, float step, float* out, uint64_t count) {
    each(count, [&](uint64_t i) { out[i] = fmaf(step, v[i], z[i]); });
}

// c and u are the halves of `pair`, `count` elements each.
extern "C" __global__ void guide(const float* pair, float weight, uint32_t guided, uint32_t image, float* v,
                                 uint64_t count) {
    each(count, [&](uint64_t i) {
        float c = pair[i], u = pair[count + i];
        v[i] = i % image < guided ? fmaf(weight, c - u, u) : c;
    });
}
