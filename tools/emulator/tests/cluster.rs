//! Clusters, bulk copies and tile stores.

mod common;

use common::{lanes::*, *};
use emulator::{Kind, Launch, Swizzle, TensorMap, TensorType};
use half::bf16;

#[test]
fn a_cluster_adds_up_through_distributed_shared_memory() {
    for_each("cluster.cu", &["sm_90a"], |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("cluster_sum").expect("it is there");
        let x = random(5, 3 * 4 * 256);
        let (dx, total) = (upload_f32(device, "x", &x), device.alloc("total", 12).expect("memory is left"));
        let launch = Launch { grid: [12, 1, 1], block: [64, 1, 1], cluster: [4, 1, 1], dynamic_shared: 0 };
        let report = device.launch(&function, launch, &[&dx, &total]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(report.total().async_bytes, 12 * 1024);
        let got: Vec<f64> = f32s(&device.download(total, 12).expect("inside")).into_iter().map(f64::from).collect();
        let want: Vec<f64> = x.chunks(1024).map(|c| c.iter().map(|v| f64::from(*v)).sum()).collect();
        assert_close(&got, &want, |_| 1e-3, "total");
    });
}

#[test]
fn a_row_passes_from_one_shared_memory_to_another() {
    for_each("cluster.cu", &["sm_90a"], |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("pass_on").expect("it is there");
        let out = device.alloc("out", 2 * 64 * 4).expect("memory is left");
        let launch = Launch { grid: [2, 1, 1], block: [64, 1, 1], cluster: [2, 1, 1], dynamic_shared: 0 };
        device.launch(&function, launch, &[&out]).unwrap_or_else(|error| panic!("{error}"));
        let got = f32s(&device.download(out, 512).expect("inside"));
        let want: Vec<f32> = (0..128).map(|i| ((1 - i / 64) * 1000 + i % 64) as f32).collect();
        assert_eq!(got, want);
    });
}

#[test]
fn tiles_that_reach_over_the_edge_read_zeros_and_write_nothing() {
    for_each("cluster.cu", &["sm_90a"], |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("double_tile").expect("it is there");
        let (columns, rows) = (48usize, 10usize);
        let x: Vec<bf16> = (0..rows * columns).map(|i| bf16::from_f32((i % 61) as f32 - 30.0)).collect();
        let from = upload_bf16(device, "in", &x);
        let to = upload_bf16(device, "out", &vec![bf16::from_f32(0.5); rows * columns]);
        let sums = upload_f32(device, "sums", &[1.0; 64]);
        let map = |base| {
            let (extents, strides) = ([columns as u64, rows as u64], [columns as u64 * 2]);
            TensorMap::tiled(TensorType::Bf16, base, &extents, &strides, &[32, 8], Swizzle::B64).expect("it is legal")
        };
        let launch = Launch { grid: [2, 2, 1], block: [32, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
        let (map_in, map_out) = (map(from), map(to));
        device.launch(&function, launch, &[&map_in, &map_out, &sums]).unwrap_or_else(|error| panic!("{error}"));
        let got = bf16s(&device.download(to, rows * columns * 2).expect("inside"));
        // Boxes start at columns -8 and 24 and at rows -3 and 5: together they cover all of the tensor.
        let want: Vec<f64> = x.iter().map(|v| 2.0 * v.to_f64()).collect();
        assert_eq!(got, want);
        let got = f32s(&device.download(sums, 256).expect("inside"));
        for (at, got) in got.iter().enumerate() {
            let column = at as i64 - 8;
            let inside = (0..columns as i64).contains(&column);
            let sum: f64 = if inside { (0..rows).map(|r| want[r * columns + column as usize]).sum() } else { 0.0 };
            assert_eq!(f64::from(*got), 1.0 + sum, "column {column}");
        }
    });
}

#[test]
fn a_multicast_row_lands_in_every_cta_of_its_mask() {
    for_each("cluster.cu", &["sm_90a"], |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("spread_row").expect("it is there");
        let x = random(3, 64);
        let (dx, out) = (upload_f32(device, "x", &x), device.alloc("out", 512).expect("memory is left"));
        let launch = Launch { grid: [2, 1, 1], block: [64, 1, 1], cluster: [2, 1, 1], dynamic_shared: 0 };
        device.launch(&function, launch, &[&dx, &out]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(f32s(&device.download(out, 512).expect("inside")), [x.clone(), x].concat());
    });
}

#[test]
fn boxes_of_one_and_three_dimensions_are_cut_at_every_edge() {
    for_each("cluster.cu", &["sm_90a"], |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("move_boxes").expect("it is there");
        let extents = [8usize, 5, 3];
        let x: Vec<f32> = (0..120).map(|i| 1.0 + i as f32).collect();
        let inside = |at: [i32; 3]| at.iter().zip(extents).all(|(c, extent)| (0..extent as i32).contains(c));
        let index = |at: [i32; 3]| (at[0] + 8 * (at[1] + 5 * at[2])) as usize;
        for corner in [[0, 0, 0], [4, 2, 1], [-4, -1, -1], [6, 3, 2], [20, 0, 0]] {
            let (from, to) = (upload_f32(device, "in", &x), upload_f32(device, "to", &vec![-1.0; 120]));
            let out = device.alloc("out", 64).expect("memory is left");
            let box_map = |base| {
                let extents = extents.map(|e| e as u64);
                TensorMap::tiled(TensorType::F32, base, &extents, &[32, 160], &[4, 3, 2], Swizzle::None)
            };
            let (map_in, map_to) = (box_map(from).expect("it is legal"), box_map(to).expect("it is legal"));
            let line = TensorMap::tiled(TensorType::F32, from, &[120], &[], &[16], Swizzle::None).expect("it is legal");
            let launch = Launch { grid: [1; 3], block: [32, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
            let result =
                device.launch(&function, launch, &[&map_in, &map_to, &line, &out, &corner[0], &corner[1], &corner[2]]);
            result.unwrap_or_else(|error| panic!("{error}"));
            let mut want = vec![-1.0; 120];
            for at in (0..24).map(|i| [corner[0] + i % 4, corner[1] + i / 4 % 3, corner[2] + i / 12]) {
                if inside(at) {
                    want[index(at)] = x[index(at)];
                }
            }
            assert_eq!(f32s(&device.download(to, 480).expect("inside")), want, "{corner:?}");
            let want: Vec<f32> =
                (corner[0]..corner[0] + 16).map(|i| if (0..120).contains(&i) { x[i as usize] } else { 0.0 }).collect();
            assert_eq!(f32s(&device.download(out, 64).expect("inside")), want, "{corner:?}");
        }
    });
}

#[test]
fn a_cta_must_not_leave_before_its_siblings_have_accessed_its_shared_memory() {
    // CTA 1 accesses a word of CTA 0, and has left when that goes on.
    let body = |access: &str, end: &str| {
        format!(
            ".shared .align 8 .b8 s[16];\n.reg .b32 %s, %x, %rank;\n.reg .pred %zero, %other, %done;\nmov.u32 %s, s;\n\
             mov.u32 %rank, %cluster_ctarank;\nsetp.eq.u32 %zero, %rank, 0;\nsetp.ne.u32 %other, %t, 0;\n\
             @%other bra READY;\nst.shared.u32 [%s], %rank;\nmbarrier.init.shared::cta.b64 [%s+8], 1;\nREADY:\n\
             barrier.cluster.arrive;\nbarrier.cluster.wait;\n@%other bra END;\n@%zero bra ON;\n\
             mapa.shared::cluster.u32 %s, %s, 0;\n{access}\nON:\n{end}"
        )
    };
    let both = "END:\nbarrier.cluster.arrive;\nbarrier.cluster.wait;";
    let arrive = "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%s+8];";
    // CTA 0 waits for what CTA 1 arrives on behind its accesses.
    let waits = "@!%zero bra END;\nWAIT:\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %done, [%s+8], 0;\n\
                 @!%done bra WAIT;\nEND:";
    for policy in POLICIES {
        let gone = |access: &str, end: &str| {
            let (kind, message) = faulty(&body(access, end), policy, 32, 2);
            assert!(kind == Kind::Memory && message.contains("warp 0 of the CTA with rank 1"), "{access}: {message}");
        };
        let stays = |access: &str, end: &str| {
            let result = launched(&body(access, end), policy, 32, 2);
            assert!(result.is_ok(), "{access} {end}: {:?}", result.err());
        };
        for access in [
            "ld.shared::cluster.u32 %x, [%s];",
            "st.shared::cluster.u32 [%s+4], %rank;",
            "atom.shared::cluster.add.u32 %x, [%s], 1;",
        ] {
            gone(access, "END:");
            stays(access, both);
            stays(access, &both.replace("arrive;", "arrive.relaxed;"));
            stays(&format!("{access}\n{arrive}"), waits);
        }
        gone(arrive, "END:");
        // The access lies behind the arrival that CTA 0 waits for.
        gone(&format!("{arrive}\nld.shared::cluster.u32 %x, [%s];"), waits);
    }
}
