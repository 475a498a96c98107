// engine: trains and samples diffusion transformers. The C interface of libengine.a.
//
// Status. A function that can fail returns an engine_status; engine_last_error() then says why, for the calling thread.
// Nothing is written to an answer, and a handle that was asked for is null.
//
// Handles. What an _open function gives belongs to the caller, who closes it once, in any order. A handle may be used
// from any thread; calls on one device take turns, those on two devices run side by side. Nobody uses a handle while it
// is closed.
//
// Pointers. Arguments and arrays are the caller's and are not kept beyond the call. Arrays are contiguous, the last
// index fastest, and as large as their comment says. Texts are UTF-8 and end with 0.
//
// Arguments. The first field of every struct is its size: { .size = sizeof(engine_predict_args), ... }. A library in
// which it is another refuses it. What 0 or null stands for is said where they are allowed.
//
// Callbacks run on a thread that is within a call. They must return, must not throw, and must not use a device.

#ifndef ENGINE_H
#define ENGINE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// The version of this interface; it changes where a program compiled against the last one would no longer be right.
#define ENGINE_ABI_VERSION 1

// In the place of a class: all rows.
#define ENGINE_ALL_CLASSES UINT32_MAX

// How a call ended. The numbers are the exit codes of the `engine` binary.
typedef enum engine_status {
    // Done.
    ENGINE_STATUS_OK = 0,
    // An argument, a recipe or a folder cannot be used as given.
    ENGINE_STATUS_USAGE = 2,
    // A data set, or a file of weights, is missing, corrupt or does not fit.
    ENGINE_STATUS_DATA = 3,
    // No valid checkpoint was found, or none could be written.
    ENGINE_STATUS_CHECKPOINT = 4,
    // The device's memory does not hold what was asked for.
    ENGINE_STATUS_MEMORY = 5,
    // The device failed, or the required device is missing.
    ENGINE_STATUS_DEVICE = 6,
    // Training left the finite numbers.
    ENGINE_STATUS_DIVERGED = 7,
    // A callback asked for the end.
    ENGINE_STATUS_STOPPED = 75,
    // The engine has a bug; please report the text.
    ENGINE_STATUS_BUG = 101,
} engine_status;

// A device: the processor with its threads, or a CUDA card with its memory.
typedef struct engine_device engine_device;

// The model of a checkpoint, with its weights on a device.
typedef struct engine_model engine_model;

// The empirical score of a data set: the score of the mixture that training draws z from, z = (1 - t) x + t eps.
typedef struct engine_score engine_score;

// A run that trains step by step. It holds its folder: no other process or handle has it meanwhile.
typedef struct engine_trainer engine_trainer;

// Which device to open.
typedef struct engine_device_args {
    // sizeof(engine_device_args)
    size_t size;
    // "auto", "cpu", "cuda" or "cuda:N"; null is "auto", the best one that there is.
    const char *device;
    // Threads of the processor, 0 for one on each core. Any number gives the same bits.
    size_t threads;
    // What matrix products read: "f32", "bf16" or "auto"; null is "auto", bf16 on a card and f32 on the processor.
    const char *precision;
    // Hears what is worth a warning and no failure, from within any call on the device; null hears nothing.
    void (*warn)(void *context, const char *text);
    // Handed to `warn`.
    void *context;
} engine_device_args;

// What a model is.
typedef struct engine_model_info {
    // sizeof(engine_model_info), set by the caller.
    size_t size;
    // Of the images, which are arrays (channels, height, width).
    size_t channels;
    size_t height;
    size_t width;
    // 0 for a model without labels.
    size_t classes;
    // Values of all its parameters.
    size_t parameters;
    // The path from data to noise, "linear", "ddpm-linear" or "ddpm-cosine", and what is predicted on it: "v", "x" or "eps".
    // Both texts are the model's, and end with it.
    const char *path;
    const char *prediction;
} engine_model_info;

// What a model is asked.
typedef struct engine_predict_args {
    // sizeof(engine_predict_args)
    size_t size;
    // Number of images, B.
    size_t batch;
    // (B, channels, height, width): data seen through noise, finite.
    const float *z;
    // (B): the time of each, from 0 (data) to 1 (noise).
    const float *t;
    // (B): the class of each, or the number of classes for none; null gives none a class.
    const uint32_t *y;
} engine_predict_args;

// Which images to draw, and how. The interval and the channels of guidance, and the bound of predicted data, are those of
// the run's recipe.
typedef struct engine_sample_args {
    // sizeof(engine_sample_args)
    size_t size;
    // Number of images, B.
    size_t batch;
    // (B): the class of each, or the number of classes for none; null gives image i the class i modulo their number.
    const uint32_t *labels;
    // As `engine sample --sampler`, such as "heun" or "ddim:0.5"; null is the one of the run's recipe.
    const char *sampler;
    // Steps of the solver from t = 1 (noise) to t = 0 (data), at least 1.
    size_t steps;
    // Weight of classifier-free guidance; 1 is the conditional model.
    float guidance;
    // Where the noise comes from. Image i depends on seed and i, and not on the others.
    uint64_t seed;
    // Images computed at once, 0 for 64: speed and memory, not the images.
    size_t at_once;
    // Told before every step of the solver how many images are done, half of a batch where all of it is half-way. What it
    // returns other than 0 ends the call with ENGINE_STATUS_STOPPED. It may be null, and must not use a device.
    int (*progress)(void *context, size_t done, size_t batch);
    // Handed to `progress`.
    void *context;
} engine_sample_args;

// Of which data.
typedef struct engine_score_args {
    // sizeof(engine_score_args)
    size_t size;
    // A store of `engine data ingest`; null where `data` are the rows.
    const char *store;
    // Number of rows M, and values of each d, where `data` are the rows; else both 0.
    size_t rows;
    size_t width;
    // (M, d), finite; it is copied. null where `store` names the rows.
    const float *data;
    // (M): the class of each row of `data`; null where they have none.
    const uint32_t *labels;
} engine_score_args;

// Points, and what is asked about them beside the score.
typedef struct engine_score_query {
    // sizeof(engine_score_query)
    size_t size;
    // Number of points, B.
    size_t batch;
    // (B, d): data seen through noise.
    const double *z;
    // (B): the time of each, above 0 and up to 1.
    const double *t;
    // The rows of one class alone, or ENGINE_ALL_CLASSES.
    uint32_t class_;
    // How many of the nearest rows, at most as many as there are.
    size_t nearest;
    // How many draws from the posterior.
    size_t draws;
    // Where the draws come from. Those of point i depend on seed and i.
    uint64_t seed;
} engine_score_query;

// Where the answers go; what is null is not wanted. Rows are numbered as in `data`, or in the store.
typedef struct engine_score_answer {
    // sizeof(engine_score_answer)
    size_t size;
    // (B, d): s*, the gradient of log p.
    double *score;
    // (B, d): the velocity that a network would ideally predict.
    double *velocity;
    // (B, d): the mean of the posterior of the row behind z.
    double *denoised;
    // (B): natural logarithm of the density.
    double *log_p;
    // (B): 1 / sum of the squared weights.
    double *n_effective;
    // (B, nearest): rows by |z - (1 - t) x|, nearest first.
    uint32_t *nearest;
    // (B, nearest): their distances.
    double *nearest_distance;
    // (B, draws): rows drawn from the posterior.
    uint32_t *draws;
    // (B): |z - (1 - t) x| / (t sqrt d) of the row for which it is closest to 1.
    double *r_star;
    // (B, 3): how far the answers can be off, of the weights in total variation, of log p, and of the score in length.
    double *certificate;
} engine_score_answer;

// Which run to begin, or to go on with.
typedef struct engine_trainer_args {
    // sizeof(engine_trainer_args)
    size_t size;
    // Directory of the run. Where it holds a run of this recipe, that goes on from its newest checkpoint.
    const char *folder;
    // What to do, as TOML; the keys are those of `engine train --help`. null where `recipe_path` names a file of it.
    const char *recipe;
    // File of the recipe; null where `recipe` is its text.
    const char *recipe_path;
    // Of the images that engine_trainer_step is given; all 0 for a run that reads data.store of its recipe, which is the
    // images that the library holds where the recipe names none.
    size_t channels;
    size_t height;
    size_t width;
    // 0 for images without labels.
    size_t classes;
} engine_trainer_args;

// What a run is, and where it stands.
typedef struct engine_trainer_info {
    // sizeof(engine_trainer_info), set by the caller.
    size_t size;
    // Steps done, and steps of the whole run.
    uint64_t step;
    uint64_t steps;
    // Images of the next step.
    size_t batch;
    // Of the images.
    size_t channels;
    size_t height;
    size_t width;
    // 0 for images without labels.
    size_t classes;
    // Values of all parameters of the model.
    size_t parameters;
} engine_trainer_info;

// What a step trains on.
typedef struct engine_batch {
    // sizeof(engine_batch)
    size_t size;
    // Number of images, B: that of engine_trainer_info.
    size_t batch;
    // (B, channels, height, width).
    const float *images;
    // (B): the class of each, or the number of classes for none; null gives none a class.
    const uint32_t *labels;
} engine_batch;

// What a step came to.
typedef struct engine_report {
    // sizeof(engine_report), set by the caller.
    size_t size;
    // Steps done so far.
    uint64_t step;
    // The loss before the update.
    float loss;
    // The norm of the gradient before it was clipped.
    float norm;
    float learning_rate;
    // 1; 0 where loss or norm is not finite, and the step touched nothing.
    uint32_t applied;
} engine_report;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The ENGINE_ABI_VERSION of the library, to compare with that of the header.
uint32_t engine_abi_version(void);

// Opens a device. `*device` is the caller's, to be closed; it is null where the call fails.
enum engine_status engine_device_open(const struct engine_device_args *args, struct engine_device **device);

// The device in words: "cpu, 2 threads, avx512bf16", or the name of the card. The text is the handle's, and ends with it;
// null where the call fails.
const char *engine_device_description(const struct engine_device *device);

// Closes a device; null is none. What was opened on it goes on, and its memory goes with the last of all.
void engine_device_close(struct engine_device *device);

// Opens the model at `path` on a device: a run directory, one of its checkpoints, or a file of weights of one. Of the first
// two it has the first moving average of the weights, where the run has one, as `engine sample` does.
// `*model` is the caller's, to be closed; it is null where the call fails.
enum engine_status engine_model_open(const struct engine_device *device,
                                     const char *path,
                                     struct engine_model **model);

// Fills in what a model is.
enum engine_status engine_model_describe(const struct engine_model *model, struct engine_model_info *info);

// Closes a model; null is none.
void engine_model_close(struct engine_model *model);

// Writes what the model predicts, (B, channels, height, width), to `prediction`, which has room for
// `count` values and may be `z`.
enum engine_status engine_predict(const struct engine_model *model,
                                  const struct engine_predict_args *args,
                                  float *prediction,
                                  size_t count);

// Draws images from a model: (B, channels, height, width), data as it was trained on, to `images`, which has room for
// `count` values.
enum engine_status engine_sample(const struct engine_model *model,
                                 const struct engine_sample_args *args,
                                 float *images,
                                 size_t count);

// Reads a data set on a device. `*score` is the caller's, to be closed; it is null where the call fails.
enum engine_status engine_score_open(const struct engine_device *device,
                                     const struct engine_score_args *args,
                                     struct engine_score **score);

// Answers a query, exactly but for what the certificate says.
enum engine_status engine_score_at(const struct engine_score *score,
                                   const struct engine_score_query *query,
                                   const struct engine_score_answer *answer);

// Closes a score; null is none.
void engine_score_close(struct engine_score *score);

// Why the last call of this thread that failed did; "" where none has. Its status goes to `status`, which may be null.
// The text is the library's, and stays as it is until the next call of this thread that fails.
const char *engine_last_error(enum engine_status *status);

// Opens a run on a device. `*trainer` is the caller's, to be closed; it is null where the call fails.
enum engine_status engine_trainer_open(const struct engine_device *device,
                                       const struct engine_trainer_args *args,
                                       struct engine_trainer **trainer);

// Fills in what a run is, and where it stands.
enum engine_status engine_trainer_describe(const struct engine_trainer *trainer, struct engine_trainer_info *info);

// Does the next step of a run: on `batch`, or, where that is null, on the next one of its data set. `report` may be null.
enum engine_status engine_trainer_step(const struct engine_trainer *trainer,
                                       const struct engine_batch *batch,
                                       struct engine_report *report);

// Writes a checkpoint of a run into its folder, which engine_model_open and engine_trainer_open read. It is there whole, or
// not at all.
enum engine_status engine_trainer_save(const struct engine_trainer *trainer);

// Closes a run; null is none. What was not saved is lost.
void engine_trainer_close(struct engine_trainer *trainer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ENGINE_H */
