use crate::base::Result;
use crate::data::idx::Idx;
use crate::data::images::{IdxRows, idx_labels};
use crate::data::pack::{Notes, pack};
use crate::data::source::Source;
use crate::data::store::Store;
use std::path::Path;

static IMAGES: &[u8] = include_bytes!("fashion-mnist/t10k-images-idx3-ubyte.gz");
static LABELS: &[u8] = include_bytes!("fashion-mnist/t10k-labels-idx1-ubyte.gz");

const NAME: &str = "fashion-mnist";
const CLASS_NAMES: [&str; 10] =
    ["T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// The 10,000 test images of Fashion-MNIST, 28 x 28 gray, as an in-memory store: what a bare `engine train` trains on.
///
/// Xiao, Rasul, Vollgraf, *Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms*, 2017.
pub fn fashion_mnist() -> Result<Store> {
    Store::from_source(Source::memory(NAME, bytes()?))
}

/// The bytes of that store.
pub(super) fn bytes() -> Result<Vec<u8>> {
    let images = IdxRows::new(Idx::open(Source::memory("t10k-images-idx3-ubyte.gz", IMAGES))?)?;
    let labels = idx_labels(&Idx::open(Source::memory("t10k-labels-idx1-ubyte.gz", LABELS))?)?;
    let notes =
        Notes { provenance: "the test images of Fashion-MNIST, embedded in the program", class_names: &CLASS_NAMES };
    pack(&images, Some(&labels), &notes, Vec::new(), Path::new(NAME), &mut |_, _| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_images_are_the_published_ones() {
        let store = fashion_mnist().unwrap();
        store.verify().unwrap();
        let info = store.info();
        assert_eq!((info.rows, info.shape, &info.class_counts), (10_000, [1, 28, 28], &vec![1000; 10]));
        assert_eq!(info.class_names[9], "ankle boot");
        // The published labels begin 9, 2, 1, 1, 6, 1, 4, 6, 5, 7.
        let index = store.index().unwrap();
        assert!(index.chunks(1000).all(|class| class.is_sorted()), "rows of a class keep their order");
        let label_of = |original| store.label(index.iter().position(|&row| row == original).unwrap() as u32);
        assert_eq!((0..10).map(label_of).collect::<Vec<_>>(), [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]);
        // Mean and deviation of the test images on [0, 1], computed with numpy: 0.2868493, 0.3524442.
        assert!((info.mean[0] - (2.0 * 0.286_849_3 - 1.0)).abs() < 1e-6, "{:?}", info.mean);
        assert!((info.std[0] - 2.0 * 0.352_444_2).abs() < 1e-6, "{:?}", info.std);
        assert_eq!((info.min[0], info.max[0]), (-1.0, 1.0));
    }
}
