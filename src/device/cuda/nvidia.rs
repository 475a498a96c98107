use super::driver::{Argument, Boxes, Card, Download, Driver, Function, Graph, Grid, Loaded, Mark, Module};
use super::marks::Marks;
use super::staging::Staging;
use crate::base::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::ffi::{CString, c_int, c_void};
use std::sync::{Mutex, MutexGuard};

/// The CUDA version that the embedded machine code needs of a driver, as the driver counts: 13.0.
const NEEDED: u32 = 13_000;

/// Most arguments of a kernel, and most of them that are boxes.
const ARGUMENTS: usize = 32;
const BOXES: usize = 4;

/// The driver of a card of this machine, opened at run time.
pub struct Nvidia {
    card: Card,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    modules: Vec<sys::CUmodule>,
    kernels: Vec<Kernel>,
    graphs: Vec<Option<Recording>>,
    capturing: bool,
    staging: Staging,
    marks: Marks,
}

struct Kernel {
    function: sys::CUfunction,
    /// Bytes of each parameter.
    parameters: Vec<usize>,
    /// Dynamic shared memory that has been allowed.
    shared: u32,
}

struct Recording {
    graph: sys::CUgraph,
    exec: sys::CUgraphExec,
}

// SAFETY: the driver's handles may be used from any thread; every call first makes the context current on its thread, and
// what changes lies behind a mutex.
unsafe impl Send for Nvidia {}
// SAFETY: as above.
unsafe impl Sync for Nvidia {}

impl Nvidia {
    /// Card number `ordinal` of this machine.
    ///
    /// # Errors
    /// One sentence for each way in which there is none: no driver, a stub, an old driver, no such card.
    pub fn open(ordinal: usize) -> Result<Nvidia> {
        let missing = |what: String| Error::Device(format!("cuda:{ordinal}: {what}; give --device cpu"));
        // SAFETY: only tries to load the library, and says whether that worked. Nothing below may come before it: the
        // bindings panic where there is no driver.
        if !unsafe { sys::is_culib_present() } {
            return Err(missing("there is no CUDA driver (libcuda) on this machine".into()));
        }
        result::init().map_err(|error| missing(format!("the CUDA driver does not start: {}", text(error))))?;
        let mut version: c_int = 0;
        // SAFETY: writes the one integer.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|error| missing(text(error)))?;
        let driver = version as u32;
        if driver < NEEDED {
            let name = |version: u32| format!("{}.{}", version / 1000, version % 1000 / 10);
            return Err(missing(format!("its driver knows CUDA {}, the kernels need {}", name(driver), name(NEEDED))));
        }
        let count = result::device::get_count().map_err(|error| missing(text(error)))?;
        if ordinal >= count as usize {
            return Err(missing(format!("this machine has {count} CUDA cards, counted from 0")));
        }
        Nvidia::connect(ordinal as c_int, driver).map_err(|error| missing(text(error)))
    }

    fn connect(ordinal: c_int, driver: u32) -> std::result::Result<Nvidia, DriverError> {
        use sys::CUdevice_attribute_enum as Attribute;
        let device = result::device::get(ordinal)?;
        // SAFETY: the device is valid, here and for its memory and its context.
        let attribute = |which| unsafe { result::device::get_attribute(device, which) };
        let card = Card {
            name: result::device::get_name(device)?,
            capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
            ),
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
            // SAFETY: as above.
            memory: unsafe { result::device::total_mem(device) }?,
            driver,
        };
        // SAFETY: as above; the context is retained until this value is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }?;
        // SAFETY: the context is valid.
        unsafe { result::ctx::set_current(context) }?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        Ok(Nvidia { card, device, context, stream, books: Mutex::default() })
    }

    /// The books, with the context current on this thread.
    fn enter(&self) -> Result<MutexGuard<'_, Books>> {
        // SAFETY: the context is valid as long as `self` is.
        unsafe { result::ctx::set_current(self.context) }.map_err(device)?;
        Ok(self.books.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// As [`Nvidia::enter`], for what reads or writes memory of the host.
    fn enter_outside_capture(&self) -> Result<MutexGuard<'_, Books>> {
        let books = self.enter()?;
        assert!(!books.capturing, "a captured step exchanges nothing with the host");
        Ok(books)
    }
}

impl Driver for Nvidia {
    fn card(&self) -> &Card {
        &self.card
    }

    fn free_memory(&self) -> Result<usize> {
        let _books = self.enter()?;
        Ok(result::mem_get_info().map_err(device)?.0)
    }

    fn reserve(&self, bytes: usize) -> Result<u64> {
        let _books = self.enter()?;
        // SAFETY: the memory is used by address alone, and returns with the context.
        unsafe { result::malloc_sync(bytes) }.map_err(|error| {
            Error::Memory(format!("{}: reserving {bytes} bytes of its memory: {}", self.card.name, text(error)))
        })
    }

    fn release(&self, address: u64) {
        let Ok(_books) = self.enter() else { return };
        // SAFETY: the address was reserved and is used no more; the driver waits for what still runs. A failure here would
        // have shown at the next call.
        let _ = unsafe { result::free_sync(address) };
    }

    fn upload(&self, to: u64, from: &[u8]) -> Result<()> {
        let mut books = self.enter_outside_capture()?;
        // SAFETY: the range is reserved memory.
        unsafe { books.staging.upload(self.stream, to, from) }.map_err(device)
    }

    fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        let _books = self.enter_outside_capture()?;
        // SAFETY: the range is reserved memory, and `to` is borrowed until the stream has passed the copy.
        unsafe {
            result::memcpy_dtoh_async(to, from, self.stream).map_err(earlier)?;
            result::stream::synchronize(self.stream).map_err(earlier)
        }
    }

    fn begin_download(&self, from: u64, bytes: usize) -> Result<Download> {
        let mut books = self.enter_outside_capture()?;
        // SAFETY: the range is reserved memory.
        unsafe { books.staging.begin_download(self.stream, from, bytes) }.map(Download).map_err(device)
    }

    fn end_download(&self, download: Download, to: &mut [u8]) -> Result<()> {
        let mut books = self.enter_outside_capture()?;
        // SAFETY: the context is current.
        unsafe { books.staging.end_download(download.0, to) }.map_err(earlier)
    }

    fn fill(&self, to: u64, value: u8, bytes: usize) -> Result<()> {
        let _books = self.enter()?;
        // SAFETY: the range is reserved memory.
        unsafe { result::memset_d8_async(to, value, bytes, self.stream) }.map_err(device)
    }

    fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        let _books = self.enter()?;
        // SAFETY: both ranges are reserved memory.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) }.map_err(device)
    }

    fn load(&self, module: &Module) -> Result<Loaded> {
        let mut books = self.enter()?;
        let (major, minor) = self.card.capability;
        let images = module.images.iter();
        // Machine code runs on its own capability and, unless it is specific, on later ones of the same major; PTX on all
        // later ones.
        let fitting = images.clone().filter(|image| match image.specific {
            true => image.capability == (major, minor),
            false => image.capability.0 == major && image.capability.1 <= minor,
        });
        let cubin = fitting.max_by_key(|image| (image.specific, image.capability)).map(|image| image.cubin.unpacked());
        let ptx = images.filter(|image| !image.specific && image.capability <= (major, minor));
        // The driver takes text that ends in zero.
        let ptx = || Some([ptx.max_by_key(|image| image.capability)?.ptx.unpacked(), vec![0]].concat());
        let image = cubin.or_else(ptx);
        let Some(image) = image else {
            return Err(Error::Device(format!(
                "{}: no kernels were built for its capability {major}.{minor}",
                self.card.name
            )));
        };
        // SAFETY: the image is machine code or a text that ends in zero, both as the toolkit wrote them.
        let loaded = unsafe { result::module::load_data(image.as_ptr().cast()) }.map_err(device)?;
        books.modules.push(loaded);
        Ok(Loaded(books.modules.len() - 1))
    }

    fn function(&self, module: Loaded, name: &str) -> Result<Function> {
        let mut books = self.enter()?;
        let text = CString::new(name).expect("the name of a kernel has no zero");
        // SAFETY: the module was loaded above and is never unloaded.
        let function = unsafe { result::module::get_function(books.modules[module.0], text) }.map_err(device)?;
        let mut parameters = vec![];
        let (mut offset, mut size) = (0, 0);
        // SAFETY: writes the two integers, as long as there is a parameter of that number.
        while unsafe { sys::cuFuncGetParamInfo(function, parameters.len(), &mut offset, &mut size) }.result().is_ok() {
            parameters.push(size);
        }
        books.kernels.push(Kernel { function, parameters, shared: 48 << 10 });
        Ok(Function(books.kernels.len() - 1))
    }

    fn launch(&self, function: Function, grid: Grid, arguments: &[Argument]) -> Result<()> {
        let mut books = self.enter()?;
        let kernel = &mut books.kernels[function.0];
        let mut values = [0u64; ARGUMENTS];
        let mut maps = [sys::CUtensorMap { opaque: [0; 16] }; BOXES];
        let mut unused = maps.iter_mut();
        let mut pointers = [std::ptr::null_mut::<c_void>(); ARGUMENTS];
        assert_eq!(arguments.len(), kernel.parameters.len(), "a kernel gets as many arguments as it has parameters");
        for (i, argument) in arguments.iter().enumerate() {
            let size;
            pointers[i] = (&raw mut values[i]).cast();
            // A value starts at the first byte of its word: the processor is little-endian.
            (values[i], size) = match argument {
                Argument::Pointer(value) | Argument::U64(value) => (*value, 8),
                Argument::U32(value) => ((*value).into(), 4),
                Argument::F32(value) => (value.to_bits().into(), 4),
                Argument::Boxes(boxes) => {
                    let map = unused.next().expect("few arguments are boxes");
                    encode(boxes, map)?;
                    pointers[i] = (&raw mut *map).cast();
                    (0, Boxes::BYTES)
                }
            };
            assert_eq!(size, kernel.parameters[i], "argument {i} has as many bytes as its parameter");
        }
        if grid.shared > kernel.shared {
            let most = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is valid.
            unsafe { result::function::set_function_attribute(kernel.function, most, grid.shared as c_int) }
                .map_err(device)?;
            kernel.shared = grid.shared;
        }
        let ([x, y, z], [i, j, k]) = (grid.blocks, grid.threads);
        // SAFETY: the arguments are as many and as large as the kernel's parameters, and are read before the call returns.
        let launched = unsafe {
            let arguments = &mut pointers[..arguments.len()];
            result::launch_kernel(kernel.function, (x, y, z), (i, j, k), grid.shared, self.stream, arguments)
        };
        launched.map_err(device)
    }

    fn begin_capture(&self) -> Result<()> {
        let mut books = self.enter_outside_capture()?;
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is valid as long as `self` is.
        unsafe { result::stream::begin_capture(self.stream, mode) }.map_err(device)?;
        books.capturing = true;
        Ok(())
    }

    fn end_capture(&self) -> Result<Graph> {
        let mut books = self.enter()?;
        books.capturing = false;
        // SAFETY: the stream is valid, and the graph is what its capture recorded.
        let recording = unsafe {
            let graph = result::stream::end_capture(self.stream).map_err(device)?;
            let exec = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)).map_err(device)?;
            Recording { graph, exec }
        };
        books.graphs.push(Some(recording));
        Ok(Graph(books.graphs.len() - 1))
    }

    fn replay(&self, graph: Graph) -> Result<()> {
        let books = self.enter_outside_capture()?;
        let recording = books.graphs[graph.0].as_ref().expect("a recording is replayed before it is discarded");
        // SAFETY: the recording and the stream are valid.
        unsafe { result::graph::launch(recording.exec, self.stream) }.map_err(device)
    }

    fn discard(&self, graph: Graph) {
        let Ok(mut books) = self.enter() else { return };
        if let Some(Recording { graph, exec }) = books.graphs[graph.0].take() {
            // SAFETY: nothing refers to them any more; the driver keeps what is still running. A failure here would have
            // shown at the next call.
            unsafe {
                let _ = result::graph::exec_destroy(exec);
                let _ = result::graph::destroy(graph);
            }
        }
    }

    fn mark(&self) -> Result<Mark> {
        let mut books = self.enter_outside_capture()?;
        // SAFETY: the context is current, and the stream is valid as long as `self` is.
        unsafe { books.marks.set(self.stream) }.map(Mark).map_err(device)
    }

    fn seconds_between(&self, marks: [Mark; 2]) -> Result<f64> {
        let mut books = self.enter_outside_capture()?;
        // SAFETY: the context is current.
        unsafe { books.marks.seconds_between(marks.map(|mark| mark.0)) }.map_err(earlier)
    }

    fn synchronize(&self) -> Result<()> {
        let _books = self.enter()?;
        // SAFETY: the stream is valid as long as `self` is.
        unsafe { result::stream::synchronize(self.stream) }.map_err(earlier)
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        let Ok(mut books) = self.enter() else { return };
        // SAFETY: nothing refers to the handles any more. What fails here has no one left to be told.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            books.staging.free();
            books.marks.free();
            for module in books.modules.drain(..) {
                let _ = result::module::unload(module);
            }
            let _ = result::stream::destroy(self.stream);
            let _ = sys::cuDevicePrimaryCtxRelease_v2(self.device).result();
        }
    }
}

/// Writes the map of an array, which a launch copies with its other arguments.
fn encode(boxes: &Boxes, map: &mut sys::CUtensorMap) -> Result<()> {
    use sys::CUtensorMapSwizzle_enum as Swizzle;
    let swizzle = match boxes.across {
        64 => Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
        32 => Swizzle::CU_TENSOR_MAP_SWIZZLE_64B,
        16 => Swizzle::CU_TENSOR_MAP_SWIZZLE_32B,
        8 => Swizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
        other => panic!("boxes are 8, 16, 32 or 64 columns wide, not {other}"),
    };
    let (extents, strides, tile) = (boxes.extents(), boxes.strides(), boxes.tile());
    // SAFETY: the arrays have as many elements as a map of three dimensions has extents, strides and steps.
    let encoded = unsafe {
        sys::cuTensorMapEncodeTiled(
            map,
            sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            3,
            boxes.address as *mut c_void,
            extents.as_ptr(),
            strides.as_ptr(),
            tile.as_ptr(),
            [1; 3].as_ptr(),
            sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    encoded.result().map_err(device)
}

fn text(error: DriverError) -> String {
    error.error_string().map_or_else(|_| format!("{error:?}"), |text| text.to_string_lossy().into_owned())
}

fn device(error: DriverError) -> Error {
    Error::Device(text(error))
}

/// What a wait meets is the failure of something that was asked for before.
fn earlier(error: DriverError) -> Error {
    let what = "it showed when something was waited for; CUDA_LAUNCH_BLOCKING=1 in the environment names the operation";
    Error::Device(format!("{}: {what}", text(error)))
}
