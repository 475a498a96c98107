// threads CHECKPOINT CHECKPOINT: two models on two devices, and two threads on one of them, disturb each other in nothing.
#include "check.h"

#include <pthread.h>

enum { BATCH = 2, ROUNDS = 5 };

typedef struct {
    const engine_model *model;
    const char *wrong; // a device that there is not
    float *images;
} job;

static float *draw(const engine_model *model) {
    size_t count = BATCH * image_of(model);
    float *images = malloc(count * sizeof *images);
    engine_sample_args args = {.size = sizeof args, .batch = BATCH, .steps = 3, .guidance = 3.0f, .seed = 5};
    CHECK(engine_sample(model, &args, images, count) == ENGINE_STATUS_OK);
    return images;
}

static void *work(void *context) {
    job *job = context;
    CHECK(engine_last_error(NULL)[0] == '\0'); // no other thread's
    engine_device *device;
    engine_device_args args = {.size = sizeof args, .device = job->wrong};
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(engine_device_open(&args, &device) == ENGINE_STATUS_USAGE);
        free(job->images);
        job->images = draw(job->model);
        CHECK(strstr(engine_last_error(NULL), job->wrong));
    }
    return NULL;
}

// Both threads draw what one thread draws alone.
static void together(const engine_model *first, const engine_model *second) {
    job jobs[2] = {{first, "one", NULL}, {second, "two", NULL}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, work, &jobs[i]) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        float *alone = draw(jobs[i].model);
        CHECK(memcmp(alone, jobs[i].images, BATCH * image_of(jobs[i].model) * sizeof *alone) == 0);
        free(alone), free(jobs[i].images);
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    engine_device *devices[2] = {processor(1), processor(2)};
    engine_model *models[2] = {model_at(devices[0], argv[1]), model_at(devices[1], argv[2])};
    float *images[2] = {draw(models[0]), draw(models[1])};
    CHECK(memcmp(images[0], images[1], image_of(models[0]) * sizeof **images) != 0); // two checkpoints
    free(images[0]), free(images[1]);
    together(models[0], models[1]);
    together(models[1], models[1]);
    for (int i = 0; i < 2; i++) {
        engine_model_close(models[i]);
        engine_device_close(devices[i]);
    }
}
