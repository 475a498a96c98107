//! Charts: curves and points over axes as one SVG file.

use super::atomic::write;
use crate::base::Result;
use std::fmt::Write;
use std::path::Path;

/// Pixels of a chart, and around its axes: left, top, right, bottom.
const SIZE: [f64; 2] = [560.0, 400.0];
const MARGIN: [f64; 4] = [72.0, 58.0, 16.0, 48.0];
/// Colours that the colour-blind can tell apart (Okabe and Ito, 2008), black first.
const COLOURS: [&str; 6] = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];

/// One diagram.
pub struct Chart<'a> {
    pub title: String,
    pub x: Axis<'a>,
    pub y: Axis<'a>,
    /// Drawn in this order, the later over the earlier.
    pub series: Vec<Series<'a>>,
}

#[derive(Clone, Copy)]
pub struct Axis<'a> {
    pub label: &'a str,
    /// Logarithmic, which leaves out what is not above 0.
    pub log: bool,
}

/// What of the chart belongs together. Points that are not finite are left out.
pub struct Series<'a> {
    pub name: &'a str,
    pub mark: Mark,
    pub points: Vec<[f64; 2]>,
}

pub enum Mark {
    Line,
    /// Discs of so many pixels' radius.
    Dots(f64),
}

/// Puts the charts side by side at `path`.
pub fn write_charts(path: &Path, charts: &[Chart<'_>]) -> Result<()> {
    let [width, height] = [SIZE[0] * charts.len() as f64, SIZE[1]];
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (i, chart) in charts.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate({} 0)\">\n{}</g>", i as f64 * SIZE[0], chart.render());
    }
    out += "</svg>\n";
    write(path, out.as_bytes())
}

impl Chart<'_> {
    fn render(&self) -> String {
        let [left, top, right, bottom] = [MARGIN[0], MARGIN[1], SIZE[0] - MARGIN[2], SIZE[1] - MARGIN[3]];
        let scale = |axis: Axis<'_>, at: usize, ends| {
            let points = self.series.iter().flat_map(|series| &series.points);
            Scale::of(axis, points.map(|point| point[at]), ends)
        };
        let (x, y) = (scale(self.x, 0, [left, right]), scale(self.y, 1, [bottom, top]));
        let mut out = String::new();
        let mut text = |x: f64, y: f64, more: &str, text: &str| {
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {more}>{}</text>", escaped(text));
        };
        let middle = (left + right) / 2.0;
        text(middle, 20.0, "text-anchor=\"middle\" font-size=\"14\"", &self.title);
        text(middle, SIZE[1] - 10.0, "text-anchor=\"middle\"", self.x.label);
        let up = format!("text-anchor=\"middle\" transform=\"rotate(-90 16 {0})\"", (top + bottom) / 2.0);
        text(16.0, (top + bottom) / 2.0, &up, self.y.label);
        for tick in x.ticks() {
            text(x.pixel(tick), bottom + 16.0, "text-anchor=\"middle\"", &x.name(tick));
        }
        for tick in y.ticks() {
            text(left - 6.0, y.pixel(tick) + 4.0, "text-anchor=\"end\"", &y.name(tick));
        }
        let slot = (right - left) / self.series.len().max(1) as f64;
        for (i, series) in self.series.iter().enumerate() {
            text(left + i as f64 * slot + 14.0, 44.0, "", series.name);
        }

        let mut grid = String::new();
        x.ticks().iter().for_each(|&tick| write_line(&mut grid, [x.pixel(tick), top], [x.pixel(tick), bottom]));
        y.ticks().iter().for_each(|&tick| write_line(&mut grid, [left, y.pixel(tick)], [right, y.pixel(tick)]));
        let _ = writeln!(out, "<path d=\"{grid}\" stroke=\"#dddddd\" fill=\"none\"/>");
        for (i, series) in self.series.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let key = left + i as f64 * slot;
            let _ = writeln!(out, "<rect x=\"{key:.1}\" y=\"35\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
            let seen = series.points.iter().filter(|point| x.shows(point[0]) && y.shows(point[1]));
            let pixels: Vec<[f64; 2]> = seen.map(|point| [x.pixel(point[0]), y.pixel(point[1])]).collect();
            match series.mark {
                Mark::Line => {
                    let points: Vec<String> = pixels.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
                    let points = points.join(" ");
                    let style = format_args!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"");
                    let _ = writeln!(out, "<polyline points=\"{points}\" {style}/>");
                }
                Mark::Dots(radius) => {
                    let _ = writeln!(out, "<g fill=\"{colour}\">");
                    for [x, y] in pixels {
                        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>");
                    }
                    out += "</g>\n";
                }
            }
        }
        out
    }
}

fn write_line(path: &mut String, from: [f64; 2], to: [f64; 2]) {
    let _ = write!(path, "M{:.1} {:.1}L{:.1} {:.1}", from[0], from[1], to[0], to[1]);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Where values of an axis lie.
struct Scale {
    log: bool,
    /// The values, or their decimal logarithms, at the two ends in pixels.
    values: [f64; 2],
    ends: [f64; 2],
}

impl Scale {
    /// One that shows all `values`.
    fn of(axis: Axis<'_>, values: impl Iterator<Item = f64>, ends: [f64; 2]) -> Scale {
        let mut scale = Scale { log: axis.log, values: [0.0, 1.0], ends };
        let places = values.filter(|&value| scale.shows(value)).map(|value| scale.place(value));
        let [low, high] = places.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)]);
        if low <= high {
            let around = if high > low { 0.03 * (high - low) } else { 0.5 };
            scale.values = [low - around, high + around];
        }
        scale
    }

    fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    fn place(&self, value: f64) -> f64 {
        if self.log { value.log10() } else { value }
    }

    fn pixel(&self, value: f64) -> f64 {
        let share = (self.place(value) - self.values[0]) / (self.values[1] - self.values[0]);
        self.ends[0] + share * (self.ends[1] - self.ends[0])
    }

    /// About six round values: multiples of 1, 2 or 5 times a power of ten; of a logarithmic axis over a decade or more,
    /// powers of ten.
    fn ticks(&self) -> Vec<f64> {
        let [low, high] = self.values;
        if self.log && high.floor() - low.ceil() >= 1.0 {
            let step = ((high - low) / 7.0).ceil() as usize;
            return (low.ceil() as i32..=high.floor() as i32).step_by(step).map(|power| 10f64.powi(power)).collect();
        }
        let [low, high] = if self.log { [low, high].map(|place| 10f64.powf(place)) } else { [low, high] };
        let rough = (high - low) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough);
        let step = step.expect("ten powers are more than any value below them");
        ((low / step).ceil() as i64..=(high / step).floor() as i64).map(|i| i as f64 * step).collect()
    }

    fn name(&self, tick: f64) -> String {
        match tick.abs() {
            0.0 => "0".into(),
            1e-3..1e5 => format!("{}", (tick * 1e6).round() / 1e6),
            _ => format!("{tick:.0e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    const LINEAR: Axis<'static> = Axis { label: "x < y & z", log: false };
    const LOG: Axis<'static> = Axis { label: "y", log: true };

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let ticks = |axis, values: &[f64]| Scale::of(axis, values.iter().copied(), [0.0, 100.0]).ticks();
        assert_eq!(ticks(LINEAR, &[0.0, 10.0]), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(LOG, &[0.9, 1200.0]), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(ticks(LOG, &[2.0, 7.0]), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert!(ticks(LOG, &[1e-12, 1e12]).len() <= 8);
        for values in [&[3.0][..], &[], &[f64::NAN, -1.0]] {
            let ticks = ticks(LINEAR, values);
            assert!((2..9).contains(&ticks.len()) && ticks.iter().all(|tick| tick.is_finite()), "{ticks:?}");
        }
    }

    #[test]
    fn a_chart_holds_its_points_where_they_belong_and_leaves_out_what_has_no_place() {
        let points = vec![[0.0, 1.0], [5.0, 10.0], [10.0, 100.0], [5.0, 0.0], [f64::NAN, 1.0]];
        let series = |mark| Series { name: "a", mark, points: points.clone() };
        let chart = |mark| Chart { title: "t".into(), x: LINEAR, y: LOG, series: vec![series(mark)] };
        let scratch = Scratch::new();
        let path = scratch.path("chart.svg");
        write_charts(&path, &[chart(Mark::Dots(2.0)), chart(Mark::Line)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("<circle").count(), 3, "{text}");
        assert!(text.contains("x &lt; y &amp; z") && text.contains("translate(560 0)"), "{text}");
        // Half-way in both: the logarithm of 10 lies between those of 1 and 100.
        let [x, y] = [(72.0 + 544.0) / 2.0, (58.0 + 352.0) / 2.0];
        assert!(text.contains(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\"/>")), "{text}");
        assert!(text.contains(&format!(" {x:.1},{y:.1} ")), "{text}");
    }
}
