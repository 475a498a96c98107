/// The fixed position table of DiT, (rows * columns, width): the first half of a row encodes the column of the token, the
/// second half its row, each as `[sin(p w_i), cos(p w_i)]` with `w_i = 10000^(-i / (width / 4))`.
///
/// `width` is a multiple of four.
pub fn sincos(rows: usize, columns: usize, width: usize) -> Vec<f32> {
    assert!(width.is_multiple_of(4), "position tables need a width that is a multiple of 4, not {width}");
    let quarter = width / 4;
    let angle = |position: usize, i: usize| position as f64 * 10_000f64.powf(-(i as f64) / quarter as f64);
    let mut table = Vec::with_capacity(rows * columns * width);
    for (row, column) in (0..rows * columns).map(|token| (token / columns, token % columns)) {
        for position in [column, row] {
            table.extend((0..quarter).map(|i| angle(position, i).sin() as f32));
            table.extend((0..quarter).map(|i| angle(position, i).cos() as f32));
        }
    }
    table
}
