// How an image (C, H, W) is cut into square patches of P by P pixels, row by row; the twin of src/base/patch.rs.
#pragma once
#include <cstdint>

struct PatchGrid {
    uint32_t channels, height, width, patch;

    __device__ uint32_t image() const { return channels * height * width; }
    __device__ uint32_t area() const { return patch * patch; }
    __device__ uint32_t tokens() const { return height / patch * (width / patch); }

    // The place in the image of a channel of a pixel of patch `n`; `pixel` is p P + q.
    __device__ uint32_t element(uint32_t n, uint32_t pixel, uint32_t channel) const {
        const uint32_t columns = width / patch;
        const uint32_t y = n / columns * patch + pixel / patch, x = n % columns * patch + pixel % patch;
        return (channel * height + y) * width + x;
    }
};
