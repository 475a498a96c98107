// Draws images from a run into a grid, as a PPM of grey or colour.
//
//     cc sample.c $(pkg-config --cflags --libs --static engine) -o sample
//     ./sample runs/sit-xs-4 grid.ppm
#include <engine.h>

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 4 };

static void try(engine_status status) {
    if (status != ENGINE_STATUS_OK) {
        fprintf(stderr, "error: %s\n", engine_last_error(NULL));
        exit(status);
    }
}

static int progress(void *context, size_t done, size_t batch) {
    (void)context;
    fprintf(stderr, "\r%zu/%zu images", done, batch);
    return 0; // anything else ends the call
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "sample RUN OUT.ppm\n");
        return 2;
    }
    engine_device *device;
    engine_device_args where = {.size = sizeof where};
    try(engine_device_open(&where, &device));
    engine_model *model;
    try(engine_model_open(device, argv[1], &model));
    engine_model_info info = {.size = sizeof info};
    try(engine_model_describe(model, &info));
    const size_t plane = info.height * info.width, count = SIDE * SIDE * info.channels * plane;
    float *images = malloc(count * sizeof *images);
    engine_sample_args how = {
        .size = sizeof how, .batch = SIDE * SIDE, .steps = 50, .guidance = 1.0f, .seed = 1, .progress = progress,
    };
    try(engine_sample(model, &how, images, count));
    fprintf(stderr, "\r%d images on %s\n", SIDE * SIDE, engine_device_description(device));

    FILE *out = fopen(argv[2], "wb");
    if (!out) {
        perror(argv[2]);
        return 2;
    }
    fprintf(out, "P6\n%zu %zu\n255\n", SIDE * info.width, SIDE * info.height);
    for (size_t y = 0; y < SIDE * info.height; y++)
        for (size_t x = 0; x < SIDE * info.width; x++)
            for (size_t c = 0; c < 3; c++) {
                const size_t image = y / info.height * SIDE + x / info.width, channel = info.channels < 3 ? 0 : c;
                const size_t pixel = y % info.height * info.width + x % info.width;
                const float value = images[(image * info.channels + channel) * plane + pixel] * 127.5f + 127.5f;
                fputc(value < 0.0f ? 0 : value > 255.0f ? 255 : (int)(value + 0.5f), out);
            }
    free(images);
    engine_model_close(model);
    engine_device_close(device);
    return fclose(out) == 0 ? 0 : 2;
}
