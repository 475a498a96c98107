// extra_tokens: tokens of label and time before those of the patches, with positions; and back.
//
//   prepend     y = [table[label], [cos(a w_i), sin(a w_i)], x] + position      a = scale t, w_i = 10000^(-2 i / D)
//   strip       x = the last N tokens of each image of y
//   pad         y = zeros, then x
//   positions   dposition[p] = sum over the images of dy at the token of place p, in order
//   scatter     dtable[k] += sum of dy[b, 0] over the images b of label k, in order
//
//   x (B, N, D) T      y, dy (B, E + N, D) T      position (E + T, D) T      t (B) f32      label (B) u32
//   kept (B, N) u32, ascending, or null      table (rows, D) T, or null: then E is 1      dposition, dtable f32
//
// A thread takes one element at a time, each array once. Cosines and sines are made in f64 and rounded once.
#include "lib/pack.cuh"
#include "lib/wave.cuh"

template <class T>
DEVICE void prepend(const T* x, const float* t, double scale, const T* table, const uint32_t* labels,
                    const uint32_t* kept, const T* position, T* y, uint32_t tokens, uint32_t width, uint64_t count) {
    uint32_t extras = table ? 2 : 1, all = extras + tokens, half = width / 2;
    each(count, [&](uint64_t i) {
        uint32_t column = i % width, row = i / width, image = row / all, token = row % all, place = token;
        float value;
        if (token >= extras) {
            uint32_t n = image * tokens + token - extras;
            value = to_float(x[size_t(n) * width + column]);
            if (kept) place = extras + kept[n];
        } else if (table && token == 0) {
            value = to_float(table[size_t(labels[image]) * width + column]);
        } else {
            constexpr double LN_10000 = 9.210340371976182;
            double2 wave = cos_sin(scale * t[image] * exp(-LN_10000 * double(column % half) / half));
            value = float(column < half ? wave.x : wave.y);
        }
        y[i] = from_float<T>(value + to_float(position[size_t(place) * width + column]));
    });
}

template <class T>
DEVICE void strip(const T* y, T* x, uint32_t all, uint32_t tokens, uint32_t width, uint64_t count) {
    each(count, [&](uint64_t i) {
        uint64_t image = i / (uint64_t(tokens) * width);
        x[i] = y[i + (image + 1) * (all - tokens) * width];
    });
}

template <class T>
DEVICE void pad(const T* x, T* y, uint32_t all, uint32_t tokens, uint32_t width, uint64_t count) {
    each(count, [&](uint64_t i) {
        uint64_t image = i / (uint64_t(all) * width), extras = uint64_t(all - tokens) * width;
        bool patch = i % (uint64_t(all) * width) >= extras;
        y[i] = patch ? x[i - (image + 1) * extras] : from_float<T>(0.f);
    });
}

template <class T>
DEVICE void positions(const T* dy, const uint32_t* kept, float* dposition, uint32_t batch, uint32_t extras,
                      uint32_t tokens, uint32_t width, uint64_t count, bool add) {
    each(count, [&](uint64_t i) {
        uint32_t column = i % width, place = i / width;
        float sum = add ? dposition[i] : 0.f;
        for (uint32_t image = 0; image < batch; image++) {
            uint32_t token = place;
            if (kept && place >= extras) {
                // The first of the kept patches that is not before the place's.
                const uint32_t* of = kept + size_t(image) * tokens;
                uint32_t low = 0, high = tokens;
                while (low < high) {
                    uint32_t middle = (low + high) / 2;
                    if (of[middle] < place - extras) low = middle + 1;
                    else high = middle;
                }
                if (low == tokens || of[low] != place - extras) continue;
                token = extras + low;
            }
            sum += to_float(dy[(size_t(image) * (extras + tokens) + token) * width + column]);
        }
        dposition[i] = sum;
    });
}

// blockIdx.y is an image; the first one of a label sums for all of them.
template <class T>
DEVICE void scatter(const T* dy, const uint32_t* labels, float* dtable, uint32_t all, uint32_t width, uint32_t batch) {
    uint32_t column = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y, label = labels[first];
    if (column >= width) return;
    for (uint32_t image = 0; image < first; image++) {
        if (labels[image] == label) return;
    }
    float sum = 0;
    for (uint32_t image = first; image < batch; image++) {
        if (labels[image] == label) sum += to_float(dy[size_t(image) * all * width + column]);
    }
    dtable[size_t(label) * width + column] += sum;
}

#define EITHER_TYPE(T, TYPE)                                                                                           \
    extern "C" __global__ void extra_tokens_prepend_##TYPE(                                                            \
        const T* __restrict__ x, const float* __restrict__ t, float scale, const T* __restrict__ table,                \
        const uint32_t* __restrict__ labels, const uint32_t* __restrict__ kept, const T* __restrict__ position,        \
        T* __restrict__ y, uint32_t tokens, uint32_t width, uint64_t count) {                                          \
        prepend(x, t, scale, table, labels, kept, position, y, tokens, width, count);                                  \
    }                                                                                                                  \
    extern "C" __global__ void extra_tokens_strip_##TYPE(const T* __restrict__ y, T* __restrict__ x, uint32_t all,     \
                                                         uint32_t tokens, uint32_t width, uint64_t count) {            \
        strip(y, x, all, tokens, width, count);                                                                        \
    }                                                                                                                  \
    extern "C" __global__ void extra_tokens_pad_##TYPE(const T* __restrict__ x, T* __restrict__ y, uint32_t all,       \
                                                       uint32_t tokens, uint32_t width, uint64_t count) {              \
        pad(x, y, all, tokens, width, count);                                                                          \
    }                                                                                                                  \
    extern "C" __global__ void extra_tokens_positions_##TYPE(                                                          \
        const T* __restrict__ dy, const uint32_t* __restrict__ kept, float* __restrict__ dposition, uint32_t batch,    \
        uint32_t extras, uint32_t tokens, uint32_t width, uint64_t count, uint32_t add) {                              \
        positions(dy, kept, dposition, batch, extras, tokens, width, count, add);                                      \
    }                                                                                                                  \
    extern "C" __global__ void extra_tokens_scatter_##TYPE(const T* __restrict__ dy,                                   \
                                                           const uint32_t* __restrict__ labels,                        \
                                                           float* __restrict__ dtable, uint32_t all, uint32_t width,   \
                                                           uint32_t batch) {                                           \
        scatter(dy, labels, dtable, all, width, batch);                                                                \
    }
EITHER_TYPE(float, f32)
EITHER_TYPE(bf16, bf16)
