// score OUT: writes what the empirical score of an array answers, for tests/ffi.rs to compare.
#include "check.h"

enum { ROWS = 40, WIDTH = 6, BATCH = 3, NEAREST = 2, DRAWS = 4 };

int main(int argc, char **argv) {
    CHECK(argc == 2);
    float data[ROWS * WIDTH];
    uint32_t labels[ROWS];
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        data[i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
    for (size_t i = 0; i < ROWS; i++)
        labels[i] = (uint32_t)(i % 3);
    double z[BATCH * WIDTH];
    for (size_t i = 0; i < BATCH * WIDTH; i++)
        z[i] = (double)(i * 53 % 101) / 50.0 - 1.0;
    const double t[BATCH] = {0.1, 0.5, 1.0};

    engine_device *device = processor(2);
    engine_score *score;
    const engine_score_args args = {.size = sizeof args, .rows = ROWS, .width = WIDTH, .data = data, .labels = labels};
    CHECK(engine_score_open(device, &args, &score) == ENGINE_STATUS_OK);
    engine_device_close(device);
    memset(data, 0, sizeof data); // it was copied

    struct {
        double score[BATCH][WIDTH], velocity[BATCH][WIDTH], denoised[BATCH][WIDTH], log_p[BATCH], n_effective[BATCH];
        double distance[BATCH][NEAREST], r_star[BATCH], certificate[BATCH][3];
        uint32_t nearest[BATCH][NEAREST], draws[BATCH][DRAWS];
    } found;
    const engine_score_query query = {
        .size = sizeof query, .batch = BATCH, .z = z, .t = t, .class_ = 1, .nearest = NEAREST, .draws = DRAWS, .seed = 9,
    };
    const engine_score_answer answer = {
        .size = sizeof answer, .score = *found.score, .velocity = *found.velocity, .denoised = *found.denoised,
        .log_p = found.log_p, .n_effective = found.n_effective, .nearest = *found.nearest,
        .nearest_distance = *found.distance, .draws = *found.draws, .r_star = found.r_star,
        .certificate = *found.certificate,
    };
    CHECK(engine_score_at(score, &query, &answer) == ENGINE_STATUS_OK);
    for (size_t i = 0; i < BATCH; i++)
        for (size_t j = 0; j < NEAREST; j++)
            CHECK(found.nearest[i][j] % 3 == 1); // a row of the array, and of the class
    FILE *out = fopen(argv[1], "wb");
    CHECK(out && fwrite(&found, sizeof found, 1, out) == 1 && fclose(out) == 0);

    // What is null is not wanted.
    const engine_score_answer nothing = {.size = sizeof nothing};
    CHECK(engine_score_at(score, &query, &nothing) == ENGINE_STATUS_OK);
    engine_score_close(score);
}
