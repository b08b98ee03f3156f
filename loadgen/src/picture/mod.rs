//! Latencies of several runs on one sheet: by percentile, and over time. SVG or PNG, without any
//! font of the system.

mod axis;
mod canvas;

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::error::Error;
use crate::report::table::micros;
use crate::saved::Saved;
use axis::Axis;
use canvas::Canvas;

/// Width and height in pixels.
const SIZE: (u32, u32) = (1100, 1000);
/// Runs on one sheet: as many colours as are told apart.
const MAX_RUNS: usize = 8;
const COLOURS: [RGBColor; MAX_RUNS] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 50, 32),
    RGBColor(0, 130, 90),
    RGBColor(150, 60, 170),
    RGBColor(200, 120, 0),
    RGBColor(0, 150, 190),
    RGBColor(110, 110, 110),
    RGBColor(90, 60, 20),
];
const FONT: &str = "sans-serif";
const GRID: RGBColor = RGBColor(215, 215, 215);

/// Draws runs into a file; its ending says as what.
pub fn draw(runs: &[Saved], path: &Path) -> Result<(), Error> {
    let wrong = |problem: String, right| Error::Plan {
        setting: "picture",
        problem,
        right,
    };
    if runs.is_empty() || runs.len() > MAX_RUNS {
        return Err(wrong(format!("{} runs", runs.len()), "1 to 8 on a sheet"));
    }
    if let Some(run) = runs.iter().find(|run| run.distribution.is_empty()) {
        return Err(wrong(
            format!("{} measured nothing", run.name),
            "runs with latencies",
        ));
    }
    let bytes = match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => svg(runs).map(String::into_bytes),
        Some("png") => png(runs),
        _ => {
            let problem = format!("{}: unknown format", path.display());
            return Err(wrong(problem, "a file that ends in .svg or .png"));
        }
    };
    let bytes = bytes.map_err(|problem| wrong(problem, "another file"))?;
    std::fs::write(path, bytes).map_err(|error| {
        let problem = format!("cannot write {}: {error}", path.display());
        wrong(problem, "a path that can be written")
    })
}

fn svg(runs: &[Saved]) -> Result<String, String> {
    let mut text = String::new();
    sheet(SVGBackend::with_string(&mut text, SIZE), runs)?;
    Ok(text)
}

fn png(runs: &[Saved]) -> Result<Vec<u8>, String> {
    let mut canvas = Canvas::new(SIZE);
    sheet(&mut canvas, runs)?;
    canvas.png().map_err(|error| error.to_string())
}

fn sheet<B: DrawingBackend>(backend: B, runs: &[Saved]) -> Result<(), String> {
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(|error| error.to_string())?;
    let (upper, lower) = area.split_vertically(SIZE.1 / 2);
    by_percentile(&upper, runs).map_err(|error| error.to_string())?;
    over_time(&lower, runs).map_err(|error| error.to_string())?;
    area.present().map_err(|error| error.to_string())
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// How many nines a share has: 0.9 is 1, 0.99 is 2.
fn nines(quantile: f64, count: u64) -> f64 {
    let most = (count.max(10) as f64).log10();
    if quantile >= 1.0 {
        return most;
    }
    (1.0 / (1.0 - quantile)).log10().min(most)
}

fn percent(nines: f64) -> String {
    match nines.round() as i32 {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        n => format!("99.{} %", "9".repeat(n as usize - 2)),
    }
}

fn by_percentile<B: DrawingBackend>(area: &DrawingArea<B, Shift>, runs: &[Saved]) -> Drawn<B> {
    let curve = |run: &Saved| -> Vec<(f64, f64)> {
        let points = run.distribution.iter();
        points
            .map(|point| (nines(point.quantile, run.count), point.micros))
            .collect()
    };
    let curves: Vec<_> = runs.iter().map(curve).collect();
    let most = curves
        .iter()
        .flatten()
        .map(|point| point.0)
        .fold(1.0, f64::max);
    let latencies = Axis::around(curves.iter().flatten().map(|point| point.1));
    let shares = Axis::marked(most, (0..=most as u32).map(f64::from).collect());
    let mut chart = ChartBuilder::on(area)
        .caption("Latency by percentile", (FONT, 22))
        .margin(12)
        .x_label_area_size(45)
        .y_label_area_size(95)
        .build_cartesian_2d(shares, latencies)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_desc("share of logins that were faster")
        .label_style((FONT, 15))
        .x_label_formatter(&|nines| percent(*nines))
        .y_label_formatter(&|value| micros(*value))
        .draw()?;
    for ((curve, run), colour) in curves.into_iter().zip(runs).zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(curve, colour.stroke_width(2)))?
            .label(framed(&run.name))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .legend_area_size(34)
        .margin(14)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font((FONT, 15))
        .draw()
}

/// A name, and blanks: plotters thinks letters narrower than the bitmap font has them, and draws the frame
/// tight.
fn framed(name: &str) -> String {
    let blanks = 1 + name.chars().count() / 3;
    format!("{name}{:blanks$}", "")
}

fn over_time<B: DrawingBackend>(area: &DrawingArea<B, Shift>, runs: &[Saved]) -> Drawn<B> {
    let intervals = || runs.iter().flat_map(|run| &run.intervals);
    let end = intervals()
        .map(|one| one.at + one.seconds)
        .fold(1.0, f64::max);
    let counted = intervals().filter(|one| one.latency.count > 0);
    let latencies = Axis::around(counted.flat_map(|one| [one.latency.p50, one.latency.max]));
    let mut chart = ChartBuilder::on(area)
        .caption(
            "Latency over time: p50 thin, p99 thick, dots the slowest",
            (FONT, 22),
        )
        .margin(12)
        .x_label_area_size(45)
        .y_label_area_size(95)
        .build_cartesian_2d(Axis::even(end), latencies)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_desc("seconds since the measured part began")
        .label_style((FONT, 15))
        .x_label_formatter(&|seconds| format!("{}", (seconds * 10.0).round() / 10.0))
        .y_label_formatter(&|value| micros(*value))
        .draw()?;
    for (run, colour) in runs.iter().zip(COLOURS) {
        // An interval without a reply is a gap in the lines: the target stood still.
        for part in run.intervals.split(|one| one.latency.count == 0) {
            let line = |get: fn(&crate::saved::Latency) -> f64| -> Vec<(f64, f64)> {
                let points = part.iter();
                points
                    .map(|one| (one.at + one.seconds / 2.0, get(&one.latency)))
                    .collect()
            };
            chart.draw_series(LineSeries::new(
                line(|latency| latency.p50),
                colour.stroke_width(1),
            ))?;
            chart.draw_series(LineSeries::new(
                line(|latency| latency.p99),
                colour.stroke_width(3),
            ))?;
            let slowest = line(|latency| latency.max);
            chart.draw_series(
                slowest
                    .into_iter()
                    .map(|at| Circle::new(at, 3, colour.filled())),
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_named_by_their_nines() {
        let labels: Vec<_> = (0..5).map(|n| percent(f64::from(n))).collect();
        assert_eq!(labels, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert!((nines(0.999, 1_000_000) - 3.0).abs() < 1e-9);
        assert_eq!(nines(1.0, 10_000), 4.0);
    }
}
