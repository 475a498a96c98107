// misuse CHECKPOINT: whatever is handed over gets a status and a text, and nothing leaks.
#include "check.h"

#include <math.h>

// The call fails with this status, and its text begins with these words.
#define FAILS(call, code, words)                                                                                       \
    do {                                                                                                               \
        engine_status last = ENGINE_STATUS_OK;                                                                         \
        CHECK((call) == ENGINE_STATUS_##code);                                                                         \
        const char *text = engine_last_error(&last);                                                                   \
        CHECK(last == ENGINE_STATUS_##code && strncmp(text, words, strlen(words)) == 0);                               \
    } while (0)

static void devices(void) {
    engine_device *device = (engine_device *)8;
    const engine_device_args good = {.size = sizeof good, .device = "cpu", .threads = 1};
    engine_device_args args = good;
    FAILS(engine_device_open(NULL, &device), USAGE, "engine_device_args: is null; give a valid pointer");
    CHECK(device == NULL);
    FAILS(engine_device_open(&args, NULL), USAGE, "device: is null");
    FAILS(engine_device_open((void *)((char *)&args + 1), &device), USAGE, "engine_device_args: is no multiple of 8");
    for (size_t size = 0; size < 2 * sizeof args; size++) {
        args.size = size;
        if (size != sizeof args)
            FAILS(engine_device_open(&args, &device), USAGE, "engine_device_args.size: is ");
    }
    args = good, args.device = "gpu";
    FAILS(engine_device_open(&args, &device), USAGE, "engine_device_args.device = gpu: give auto, cpu, cuda or cuda:N");
    args = good, args.device = "\xff";
    FAILS(engine_device_open(&args, &device), USAGE, "engine_device_args.device: \"\\xff\" is no UTF-8");
    args = good, args.device = "cuda:4096";
    FAILS(engine_device_open(&args, &device), DEVICE, "");
    args = good, args.precision = "f16";
    FAILS(engine_device_open(&args, &device), USAGE, "engine_device_args.precision = f16: give auto, f32 or bf16");
    CHECK(device == NULL);
    CHECK(engine_device_description(NULL) == NULL);
    engine_device_close(NULL);
}

static void models(engine_device *device, const char *path) {
    engine_model *model = (engine_model *)8;
    FAILS(engine_model_open(NULL, path, &model), USAGE, "device: is null");
    CHECK(model == NULL);
    FAILS(engine_model_open(device, NULL, &model), USAGE, "path: is null");
    FAILS(engine_model_open(device, path, NULL), USAGE, "model: is null");
    FAILS(engine_model_open(device, "/nowhere", &model), DATA, "/nowhere: ");
    FAILS(engine_model_open(device, "/dev/null", &model), DATA, "/dev/null: ");
    FAILS(engine_model_open(device, "/", &model), CHECKPOINT, "/: ");
    CHECK(model == NULL);
    engine_model_close(NULL);

    model = model_at(device, path);
    engine_model_info info = {.size = sizeof info - 1};
    FAILS(engine_model_describe(NULL, &info), USAGE, "model: is null");
    FAILS(engine_model_describe(model, NULL), USAGE, "engine_model_info: is null");
    FAILS(engine_model_describe(model, &info), USAGE, "engine_model_info.size: is ");
    engine_model_close(model);
}

static void predictions(engine_model *model) {
    const size_t count = image_of(model);
    float *z = calloc(count, sizeof *z), *v = malloc(count * sizeof *v);
    float t = 0.5f;
    uint32_t y = 3;
    const engine_predict_args good = {.size = sizeof good, .batch = 1, .z = z, .t = &t, .y = &y};
    engine_predict_args args = good;
    CHECK(engine_predict(model, &args, v, count) == ENGINE_STATUS_OK);
    FAILS(engine_predict(NULL, &args, v, count), USAGE, "model: is null");
    FAILS(engine_predict(model, NULL, v, count), USAGE, "engine_predict_args: is null");
    FAILS(engine_predict(model, &args, NULL, count), USAGE, "prediction: is null");
    FAILS(engine_predict(model, &args, (float *)((char *)v + 1), count), USAGE, "prediction: is no multiple of 4");
    FAILS(engine_predict(model, &args, v, count - 1), USAGE, "prediction: has room for 255 values, the answer has 256");
    args.size--;
    FAILS(engine_predict(model, &args, v, count), USAGE, "engine_predict_args.size: is ");
    args = good, args.z = NULL;
    FAILS(engine_predict(model, &args, v, count), USAGE, "engine_predict_args.z: is null");
    args = good, args.t = NULL;
    FAILS(engine_predict(model, &args, v, count), USAGE, "engine_predict_args.t: is null");
    args = good, args.batch = 0;
    FAILS(engine_predict(model, &args, v, 0), USAGE, "engine_predict_args.batch = 0: ");
    args = good, args.batch = SIZE_MAX;
    FAILS(engine_predict(model, &args, v, count), USAGE, "engine_predict_args.batch = ");
    args.batch = SIZE_MAX / count;
    FAILS(engine_predict(model, &args, v, args.batch * count), USAGE, "engine_predict_args.z: ");
    args = good, y = 5;
    FAILS(engine_predict(model, &args, v, count), USAGE, "y[0]: is 5; give a class below 4, or 4 for none");
    y = 4, t = 1.5f;
    FAILS(engine_predict(model, &args, v, count), USAGE, "t[0]: is 1.5; give a time from 0 to 1");
    t = NAN;
    FAILS(engine_predict(model, &args, v, count), USAGE, "t[0]: is NaN");
    t = 1.0f, z[3] = INFINITY;
    FAILS(engine_predict(model, &args, v, count), USAGE, "z[3]: is inf; give finite numbers");
    z[3] = 0.0f;
    CHECK(engine_predict(model, &args, v, count) == ENGINE_STATUS_OK);
    free(z), free(v);
}

static int cancel(void *context, size_t done, size_t batch) {
    (void)done, (void)batch;
    return --*(int *)context == 0;
}

static int reenter(void *context, size_t done, size_t batch) {
    (void)done, (void)batch;
    engine_model *model = context;
    float t = 0.5f, *z = calloc(image_of(model), sizeof *z);
    engine_predict_args args = {.size = sizeof args, .batch = 1, .z = z, .t = &t};
    FAILS(engine_predict(model, &args, z, image_of(model)), USAGE, "device: is asked from within a callback");
    free(z);
    return 0;
}

static void samples(engine_model *model) {
    const size_t count = 2 * image_of(model);
    float *x = malloc(count * sizeof *x);
    const uint32_t labels[2] = {0, 9};
    const engine_sample_args good = {.size = sizeof good, .batch = 2, .steps = 2, .guidance = 1.0f};
    engine_sample_args args = good;
    FAILS(engine_sample(NULL, &args, x, count), USAGE, "model: is null");
    FAILS(engine_sample(model, NULL, x, count), USAGE, "engine_sample_args: is null");
    FAILS(engine_sample(model, &args, NULL, count), USAGE, "images: is null");
    FAILS(engine_sample(model, &args, x, count + 1), USAGE, "images: has room for 513 values, the answer has 512");
    args.size = 0;
    FAILS(engine_sample(model, &args, x, count), USAGE, "engine_sample_args.size: is 0");
    args = good, args.batch = 0;
    FAILS(engine_sample(model, &args, x, count), USAGE, "engine_sample_args.batch = 0: give 1 to 16777216");
    args = good, args.steps = 0;
    FAILS(engine_sample(model, &args, x, count), USAGE, "engine_sample_args.steps = 0: give at least 1");
    args = good, args.guidance = NAN;
    FAILS(engine_sample(model, &args, x, count), USAGE, "engine_sample_args.guidance = NaN: give a finite weight");
    args = good, args.sampler = "rk4";
    FAILS(engine_sample(model, &args, x, count), USAGE, "engine_sample_args.sampler = rk4: expected euler, heun");
    args = good, args.labels = labels;
    FAILS(engine_sample(model, &args, x, count), USAGE, "labels[1]: is 9; give a class below 4");
    int left = 2;
    args = good, args.progress = cancel, args.context = &left;
    FAILS(engine_sample(model, &args, x, count), STOPPED, "the images are not finished");
    CHECK(left == 0);
    args = good, args.progress = reenter, args.context = model;
    CHECK(engine_sample(model, &args, x, count) == ENGINE_STATUS_OK);
    free(x);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    CHECK(engine_last_error(NULL)[0] == '\0');
    devices();
    engine_device *device = processor(2);
    models(device, argv[1]);
    engine_model *model = model_at(device, argv[1]);
    predictions(model);
    samples(model);
    engine_model_close(model);
    engine_device_close(device);
}
