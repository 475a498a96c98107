// Tokens back to images: out[b, c, i P + p, j P + q] = x[b, (i j), (p q c)] for the first C of the `outputs` channels.
//
// x (B, T, P P outputs) of either type, out (B, C, H, W) f32. One thread per element of x, so that what is read is read
// whole: reads and writes each element once.
#include "lib/pack.cuh"
#include "lib/patch.cuh"

template <class T> __device__ void unpatchify(const T* x, float* out, PatchGrid grid, uint32_t outputs, uint64_t count) {
    const uint32_t width = grid.area() * outputs, tokens = grid.tokens();
    each(count, [&](uint64_t i) {
        const uint64_t row = i / width;
        const uint32_t column = i % width, channel = column % outputs;
        if (channel < grid.channels) {
            const uint32_t at = grid.element(row % tokens, column / outputs, channel);
            out[row / tokens * grid.image() + at] = to_float(x[i]);
        }
    });
}

extern "C" __global__ void unpatchify_f32(const float* x, float* out, uint32_t channels, uint32_t height,
                                          uint32_t width, uint32_t patch, uint32_t outputs, uint64_t count) {
    unpatchify(x, out, {channels, height, width, patch}, outputs, count);
}

extern "C" __global__ void unpatchify_bf16(const bf16* x, float* out, uint32_t channels, uint32_t height,
                                           uint32_t width, uint32_t patch, uint32_t outputs, uint64_t count) {
    unpatchify(x, out, {channels, height, width, patch}, outputs, count);
}
