"""Draws images from a run by ctypes, as a numpy array: sample.py LIBENGINE.so RUN OUT.npy"""

import ctypes as c
import sys

import numpy as np


class DeviceArgs(c.Structure):
    _fields_ = [("size", c.c_size_t), ("device", c.c_char_p), ("threads", c.c_size_t), ("precision", c.c_char_p),
                ("warn", c.c_void_p), ("context", c.c_void_p)]


class ModelInfo(c.Structure):
    _fields_ = [("size", c.c_size_t), ("channels", c.c_size_t), ("height", c.c_size_t), ("width", c.c_size_t),
                ("classes", c.c_size_t), ("parameters", c.c_size_t), ("path", c.c_char_p), ("prediction", c.c_char_p)]


class SampleArgs(c.Structure):
    _fields_ = [("size", c.c_size_t), ("batch", c.c_size_t), ("labels", c.c_void_p), ("sampler", c.c_char_p),
                ("steps", c.c_size_t), ("guidance", c.c_float), ("seed", c.c_uint64), ("at_once", c.c_size_t),
                ("progress", c.c_void_p), ("context", c.c_void_p)]


def args(kind, **fields):
    return kind(size=c.sizeof(kind), **fields)


def main(library, run, out):
    engine = c.CDLL(library)
    engine.engine_last_error.restype = c.c_char_p

    def call(status):
        if status:
            sys.exit("error: " + engine.engine_last_error(None).decode())

    device, model, info = c.c_void_p(), c.c_void_p(), args(ModelInfo)
    call(engine.engine_device_open(c.byref(args(DeviceArgs)), c.byref(device)))
    call(engine.engine_model_open(device, run.encode(), c.byref(model)))
    call(engine.engine_model_describe(model, c.byref(info)))
    images = np.empty((4, info.channels, info.height, info.width), np.float32)
    how = args(SampleArgs, batch=len(images), steps=10, guidance=1.0, seed=1)
    call(engine.engine_sample(model, c.byref(how), images.ctypes.data_as(c.c_void_p), c.c_size_t(images.size)))
    engine.engine_model_close(model)
    engine.engine_device_close(device)
    np.save(out, images)


main(*sys.argv[1:])
