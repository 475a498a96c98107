// train FOLDER RECIPE UNTIL [fed]: trains a run until so many steps are done, and saves it. What feeds it is a function of
// the step.
#include "check.h"

static char *contents(const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file && fseek(file, 0, SEEK_END) == 0);
    long length = ftell(file);
    char *text = calloc(length + 1, 1);
    rewind(file);
    CHECK(fread(text, 1, length, file) == (size_t)length && fclose(file) == 0);
    return text;
}

int main(int argc, char **argv) {
    CHECK(argc == 4 || argc == 5);
    const int fed = argc == 5;
    const uint64_t until = strtoull(argv[3], NULL, 10);
    char *text = fed ? contents(argv[2]) : NULL;
    engine_device *device = processor(2);
    engine_trainer *trainer;
    engine_trainer_args args = {.size = sizeof args, .folder = argv[1], .recipe = text};
    if (fed)
        args.channels = 1, args.height = args.width = 8, args.classes = 2;
    else
        args.recipe_path = argv[2];
    CHECK(engine_trainer_open(device, &args, &trainer) == ENGINE_STATUS_OK);
    free(text);
    engine_device_close(device);

    for (;;) {
        engine_trainer_info info = {.size = sizeof info};
        CHECK(engine_trainer_describe(trainer, &info) == ENGINE_STATUS_OK);
        CHECK(info.channels == 1 && info.height == 8 && info.width == 8 && info.classes == 2 && info.steps == 10);
        if (info.step == until)
            break;
        float images[5 * 64];
        uint32_t labels[5];
        for (size_t i = 0; i < info.batch; i++) {
            labels[i] = (uint32_t)((i + info.step) % 3);
            for (size_t j = 0; j < 64; j++)
                images[64 * i + j] = (float)((64 * i + j + info.step) * 37 % 101) / 50.0f - 1.0f;
        }
        const engine_batch batch = {.size = sizeof batch, .batch = info.batch, .images = images, .labels = labels};
        engine_report report = {.size = sizeof report};
        CHECK(engine_trainer_step(trainer, fed ? &batch : NULL, &report) == ENGINE_STATUS_OK);
        CHECK(report.step == info.step + 1 && report.applied == 1 && report.loss > 0.0f && report.norm > 0.0f);
        CHECK(report.learning_rate > 0.0f);
    }
    CHECK(engine_trainer_save(trainer) == ENGINE_STATUS_OK);
    engine_trainer_close(trainer);
}
