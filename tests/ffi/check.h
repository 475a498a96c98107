// What the programs of this folder share.
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not %s; last error: %s\n", __FILE__, __LINE__, #condition, engine_last_error(NULL)); \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

// The processor with so many threads.
static inline engine_device *processor(size_t threads) {
    engine_device *device;
    engine_device_args args = {.size = sizeof args, .device = "cpu", .threads = threads};
    CHECK(engine_device_open(&args, &device) == ENGINE_STATUS_OK);
    return device;
}

static inline engine_model *model_at(engine_device *device, const char *path) {
    engine_model *model;
    CHECK(engine_model_open(device, path, &model) == ENGINE_STATUS_OK);
    return model;
}

// Values of one image of a model.
static inline size_t image_of(const engine_model *model) {
    engine_model_info info = {.size = sizeof info};
    CHECK(engine_model_describe(model, &info) == ENGINE_STATUS_OK);
    return info.channels * info.height * info.width;
}
