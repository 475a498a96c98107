// The handles of engine.h as values that close themselves: draws an image and prints its mean.
//
//     c++ -std=c++17 sample.cpp $(pkg-config --cflags --libs engine) -o sample && ./sample runs/sit-xs-4
#include <engine.h>

#include <cstdio>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <vector>

static void check(engine_status status) {
    if (status != ENGINE_STATUS_OK)
        throw std::runtime_error(engine_last_error(nullptr));
}

template <auto Close> struct Closes {
    template <class Handle> void operator()(Handle *handle) const { Close(handle); }
};
using Device = std::unique_ptr<engine_device, Closes<engine_device_close>>;
using Model = std::unique_ptr<engine_model, Closes<engine_model_close>>;

int main(int argc, char **argv) try {
    engine_device_args where{sizeof where};
    engine_device *device;
    check(engine_device_open(&where, &device));
    Device owned_device(device);

    engine_model *model;
    check(engine_model_open(device, argc > 1 ? argv[1] : "runs/sit-xs-4", &model));
    Model owned_model(model);

    engine_model_info info{sizeof info};
    check(engine_model_describe(model, &info));
    std::vector<float> image(info.channels * info.height * info.width);
    engine_sample_args how{sizeof how};
    how.batch = 1, how.steps = 20, how.guidance = 1.0f;
    check(engine_sample(model, &how, image.data(), image.size()));
    std::printf("mean %g\n", std::accumulate(image.begin(), image.end(), 0.0) / double(image.size()));
} catch (const std::exception &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
