use crate::{Bench, F32, Size};
use engine::base::Cost;
use engine::base::rng::{Purpose, Stream};
use engine::data::tensors::{FileDType, Spec, Writer};
use engine::data::{Source, Store};
use engine::ops::score::{Query, Rows, Select, select_cost};
use std::sync::OnceLock;

const ROWS: usize = 16_384;
const WIDTH: usize = 3072;

/// Random pixels, more than the caches hold.
fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        let stream = Stream::new(0x5eed, 0, 0, Purpose::Fixture);
        let pixels: Vec<u8> = (0..(ROWS * WIDTH / 16) as u32)
            .flat_map(|block| stream.words(block).map(u32::to_le_bytes).concat())
            .collect();
        let (zeros, index) = (vec![0; 12], (0..ROWS as u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        let statistics = ["mean", "std", "min", "max"].map(|name| (name, FileDType::F32, &[3][..], &*zeros));
        let rows: [(&str, FileDType, &[usize], &[u8]); 3] = [
            ("index", FileDType::U32, &[ROWS], &index),
            ("rows", FileDType::U8, &[ROWS, 3, 32, 32], &pixels),
            ("digest", FileDType::U8, &[32], &[0; 32]),
        ];
        let parts: Vec<_> = statistics.into_iter().chain(rows).collect();
        let specs: Vec<Spec<'_>> = parts.iter().map(|&(name, dtype, shape, _)| Spec { name, dtype, shape }).collect();
        let mut writer = Writer::new(Vec::new(), &[("engine.store", "1")], &specs).expect("memory");
        parts.iter().for_each(|part| writer.put(part.3).expect("memory"));
        Store::from_source(Source::memory("bench.store", writer.finish())).expect("a store")
    })
}

pub fn bench(bench: &mut Bench) {
    for batch in [1, 16, 64] {
        let size = Size { preset: "pixels", batch };
        let cost: &[Cost] = &[select_cost(ROWS, WIDTH, batch)];
        bench.run("score select", size, F32, &[("", cost)], |device| {
            let rows = Rows::new(device, store()).expect("finite rows");
            let z: Vec<f64> = crate::normals(0, batch * WIDTH).into_iter().map(f64::from).collect();
            move |clock| {
                let queries: Vec<Query<'_>> = z.chunks(WIDTH).map(|z| Query { z, alpha: 0.5, sigma: 0.5 }).collect();
                let what = Select { cut: 40.0, nearest: 0, shell: None };
                let selected = clock.lap(|| rows.select(0..ROWS, &queries, what));
                let counts: Vec<f32> = selected.iter().map(|selected| selected.rows.len() as f32).collect();
                clock.output(&counts);
            }
        });
    }
}
