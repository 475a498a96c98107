// misuse CHECKPOINT FOLDER: whatever is handed over gets a status and a text, and nothing leaks.
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

static void trainers(engine_device *device, const char *folder) {
    static const char recipe[] = "[model]\npreset = \"sit-xs-2\"\ndepth = 1\nwidth = 8\nheads = 2\n"
                                 "[train]\nsteps = 2\nbatch_size = 1\n";
    engine_trainer *trainer = (engine_trainer *)8;
    const engine_trainer_args good = {
        .size = sizeof good, .folder = folder, .recipe = recipe, .channels = 1, .height = 4, .width = 4, .classes = 2,
    };
    engine_trainer_args args = good;
    FAILS(engine_trainer_open(NULL, &args, &trainer), USAGE, "device: is null");
    CHECK(trainer == NULL);
    FAILS(engine_trainer_open(device, NULL, &trainer), USAGE, "engine_trainer_args: is null");
    FAILS(engine_trainer_open(device, &args, NULL), USAGE, "trainer: is null");
    args.size = 8;
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, "engine_trainer_args.size: is 8");
    args = good, args.folder = NULL;
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, "engine_trainer_args.folder: is null");
    args = good, args.recipe = NULL;
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, "engine_trainer_args: give either recipe or recipe_path");
    args.recipe_path = "/nowhere";
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, "/nowhere: no such recipe");
    args = good, args.recipe = "[train]\nstep = 2";
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, "engine_trainer_args.recipe: ");
    args = good, args.recipe = "[train]\nprecision = \"bf16\"";
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, "train.precision: asks for BF16");
    args = good, args.recipe = "[data]\nstore = \"x\"";
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, "data.store = x: the run is fed");
    args = good, args.recipe = "[data]\nshape = [1, 8, 8]";
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, "data.shape = [1, 8, 8]: the run is fed with [1, 4, 4]");
    args = good, args.channels = 0;
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, "[model]: the number of channels is 0");
    CHECK(trainer == NULL);
    engine_trainer_close(NULL);

    CHECK(engine_trainer_open(device, &good, &trainer) == ENGINE_STATUS_OK);
    engine_trainer *second;
    FAILS(engine_trainer_open(device, &good, &second), USAGE, folder); // in use
    engine_trainer_info info = {.size = sizeof info + 1};
    FAILS(engine_trainer_describe(NULL, &info), USAGE, "trainer: is null");
    FAILS(engine_trainer_describe(trainer, NULL), USAGE, "engine_trainer_info: is null");
    FAILS(engine_trainer_describe(trainer, &info), USAGE, "engine_trainer_info.size: is ");

    float images[16] = {0};
    uint32_t label = 2;
    const engine_batch full = {.size = sizeof full, .batch = 1, .images = images, .labels = &label};
    engine_batch batch = full;
    engine_report report = {.size = 0};
    FAILS(engine_trainer_step(NULL, &batch, NULL), USAGE, "trainer: is null");
    FAILS(engine_trainer_step(trainer, NULL, NULL), USAGE, "the run: is fed by its program; give a batch");
    FAILS(engine_trainer_step(trainer, &batch, &report), USAGE, "engine_report.size: is 0");
    batch.size = 0;
    FAILS(engine_trainer_step(trainer, &batch, NULL), USAGE, "engine_batch.size: is 0");
    batch = full, batch.batch = 2;
    FAILS(engine_trainer_step(trainer, &batch, NULL), USAGE, "engine_batch.batch = 2: the next step is on 1 images");
    batch = full, batch.images = NULL;
    FAILS(engine_trainer_step(trainer, &batch, NULL), USAGE, "engine_batch.images: is null");
    label = 3;
    FAILS(engine_trainer_step(trainer, &full, NULL), USAGE, "labels[0]: is 3; give a class below 2, or 2 for none");
    batch = full, batch.labels = NULL;
    CHECK(engine_trainer_step(trainer, &batch, NULL) == ENGINE_STATUS_OK);
    images[3] = NAN, report.size = sizeof report;
    CHECK(engine_trainer_step(trainer, &batch, &report) == ENGINE_STATUS_OK);
    CHECK(report.step == 2 && report.applied == 0 && isnan(report.loss));
    FAILS(engine_trainer_step(trainer, &batch, NULL), USAGE, "train.steps = 2: so many are done");
    FAILS(engine_trainer_save(NULL), USAGE, "trainer: is null");
    CHECK(engine_trainer_save(trainer) == ENGINE_STATUS_OK);
    engine_trainer_close(trainer);
    args = good, args.channels = args.height = args.width = 0;
    FAILS(engine_trainer_open(device, &args, &trainer), USAGE, folder); // fed before, and now on a data set
}

static void scores(engine_device *device) {
    const float data[4] = {0.0f, 1.0f, 2.0f, NAN};
    const uint32_t labels[2] = {0, 70000};
    engine_score *score = (engine_score *)8;
    const engine_score_args good = {.size = sizeof good, .rows = 3, .width = 1, .data = data};
    engine_score_args args = good;
    FAILS(engine_score_open(NULL, &args, &score), USAGE, "device: is null");
    CHECK(score == NULL);
    FAILS(engine_score_open(device, NULL, &score), USAGE, "engine_score_args: is null");
    FAILS(engine_score_open(device, &args, NULL), USAGE, "score: is null");
    args.size = 0;
    FAILS(engine_score_open(device, &args, &score), USAGE, "engine_score_args.size: is 0");
    args = good, args.rows = 4;
    FAILS(engine_score_open(device, &args, &score), DATA, "data: "); // a NaN
    args = good, args.width = 0;
    FAILS(engine_score_open(device, &args, &score), USAGE, "engine_score_args.data: 3 rows of 0 values");
    args = good, args.rows = SIZE_MAX, args.width = 2;
    FAILS(engine_score_open(device, &args, &score), USAGE, "engine_score_args.data: ");
    args = good, args.data = NULL;
    FAILS(engine_score_open(device, &args, &score), USAGE, "engine_score_args.data: is null");
    args = good, args.rows = 2, args.labels = labels;
    FAILS(engine_score_open(device, &args, &score), DATA, "data: the label of row 1 is 70000");
    args = good, args.store = "/nowhere";
    FAILS(engine_score_open(device, &args, &score), USAGE, "engine_score_args: give either store or data");
    args.data = NULL;
    FAILS(engine_score_open(device, &args, &score), DATA, "/nowhere: ");
    CHECK(score == NULL);
    engine_score_close(NULL);

    CHECK(engine_score_open(device, &good, &score) == ENGINE_STATUS_OK);
    double z = 0.5, t = 0.5, log_p[2];
    const engine_score_query asked = {.size = sizeof asked, .batch = 1, .z = &z, .t = &t, .class_ = ENGINE_ALL_CLASSES};
    engine_score_query query = asked;
    engine_score_answer answer = {.size = sizeof answer, .log_p = log_p};
    CHECK(engine_score_at(score, &query, &answer) == ENGINE_STATUS_OK);
    FAILS(engine_score_at(NULL, &query, &answer), USAGE, "score: is null");
    FAILS(engine_score_at(score, NULL, &answer), USAGE, "engine_score_query: is null");
    FAILS(engine_score_at(score, &query, NULL), USAGE, "engine_score_answer: is null");
    answer.log_p = (double *)((char *)log_p + 1);
    FAILS(engine_score_at(score, &query, &answer), USAGE, "engine_score_answer.log_p: is no multiple of 8");
    answer.size = 8;
    FAILS(engine_score_at(score, &query, &answer), USAGE, "engine_score_answer.size: is 8");
    answer.size = sizeof answer, answer.log_p = log_p, query.size = 8;
    FAILS(engine_score_at(score, &query, &answer), USAGE, "engine_score_query.size: is 8");
    query = asked, query.batch = 0;
    FAILS(engine_score_at(score, &query, &answer), USAGE, "engine_score_query.batch = 0");
    query = asked, query.z = NULL;
    FAILS(engine_score_at(score, &query, &answer), USAGE, "engine_score_query.z: is null");
    query = asked, query.t = NULL;
    FAILS(engine_score_at(score, &query, &answer), USAGE, "engine_score_query.t: is null");
    query = asked, query.nearest = 4;
    FAILS(engine_score_at(score, &query, &answer), USAGE, "nearest 4: there are 3 rows");
    query = asked, query.class_ = 0;
    FAILS(engine_score_at(score, &query, &answer), USAGE, "class 0: the data have no classes");
    t = 0.0;
    FAILS(engine_score_at(score, &asked, &answer), USAGE, "t[0] = 0: sigma is 0");
    t = 0.5, z = INFINITY;
    FAILS(engine_score_at(score, &asked, &answer), USAGE, "query 0: value 0 is inf");
    engine_score_close(score);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    CHECK(engine_last_error(NULL)[0] == '\0');
    devices();
    engine_device *device = processor(2);
    models(device, argv[1]);
    trainers(device, argv[2]);
    scores(device);
    engine_model *model = model_at(device, argv[1]);
    predictions(model);
    samples(model);
    engine_model_close(model);
    engine_device_close(device);
}
