// answers CHECKPOINT OUT: writes what a model predicts and draws, for tests/ffi.rs to compare.
#include "check.h"

enum { BATCH = 3 };

static int count_calls(void *context, size_t done, size_t batch) {
    CHECK(done <= batch);
    ++*(int *)context;
    return 0;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    CHECK(engine_abi_version() == ENGINE_ABI_VERSION);
    engine_device *device = processor(2);
    CHECK(strstr(engine_device_description(device), "cpu, 2 threads"));
    engine_model *model = model_at(device, argv[1]);
    // What was opened on a device goes on without its handle.
    engine_device_close(device);

    engine_model_info info = {.size = sizeof info};
    CHECK(engine_model_describe(model, &info) == ENGINE_STATUS_OK);
    CHECK(info.channels == 2 && info.height == 8 && info.width == 16 && info.classes == 4 && info.parameters > 0);
    CHECK(strcmp(info.path, "linear") == 0 && strcmp(info.prediction, "v") == 0);

    size_t count = BATCH * image_of(model);
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
    const float t[BATCH] = {0.0f, 0.5f, 0.875f};
    const uint32_t y[BATCH] = {1, 4, 0};
    engine_predict_args asked = {.size = sizeof asked, .batch = BATCH, .z = values, .t = t, .y = y};
    // The answer may take the place of the question.
    CHECK(engine_predict(model, &asked, values, count) == ENGINE_STATUS_OK);
    FILE *out = fopen(argv[2], "wb");
    CHECK(out && fwrite(values, sizeof *values, count, out) == count);

    int calls = 0;
    engine_sample_args drawn = {
        .size = sizeof drawn, .batch = BATCH, .sampler = "heun", .steps = 4, .guidance = 2.5f, .seed = 7, .at_once = 2,
        .progress = count_calls, .context = &calls,
    };
    CHECK(engine_sample(model, &drawn, values, count) == ENGINE_STATUS_OK);
    CHECK(calls >= 8); // two batches of four steps
    CHECK(fwrite(values, sizeof *values, count, out) == count && fclose(out) == 0);
    engine_model_close(model);
    free(values);
}
