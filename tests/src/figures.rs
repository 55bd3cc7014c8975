//! Measurements of ours and of a floor → rows of a table: ratio or difference, goal, and whether it is met.
//!
//! A floor is the least that the same work costs on this machine, measured in the same run and in turn with ours, so that
//! a busy machine slows both.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Whether a goal was missed.
static MISSED: AtomicBool = AtomicBool::new(false);

/// Unix time in seconds, as `$EPOCHREALTIME` of bash has it.
pub fn epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The middle of these values, or the mean of the two in the middle; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Seconds that something takes.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64()
}

/// Waits a moment, so that what the last round left to do (removals, packing) does not slow the next.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(150));
}

/// Prints what the rows below mean, and how busy the machine is.
pub fn heading(title: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(1).collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("\n{title}  ({cores} cores, load {})", load.join(" "));
    println!("{:44} {:>12} {:>12} {:>12} {:>12}", "", "floor", "ours", "figure", "goal");
}

/// Prints one row. `figure` is what is compared with `goal`, both with the same unit; no goal: only told.
pub fn row(what: &str, floor: &str, ours: &str, figure: (f64, &str), goal: Option<f64>) {
    let (value, unit) = figure;
    let digits = if value.abs() < 10.0 { 2 } else { 1 };
    let shown = format!("{value:.digits$}{unit}");
    let (goal, verdict) = match goal {
        Some(goal) => {
            // What is no number meets no goal.
            MISSED.fetch_or(value.is_nan() || value > goal, Ordering::Relaxed);
            (format!("<= {goal}{unit}"), if value <= goal { "ok" } else { "MISSED" })
        }
        None => (String::new(), ""),
    };
    println!("{what:44} {floor:>12} {ours:>12} {shown:>12} {goal:>12}  {verdict}");
}

/// What a program ends with whose rows have been printed: 1 where a goal was missed.
pub fn ended() -> ExitCode {
    ExitCode::from(u8::from(MISSED.load(Ordering::Relaxed)))
}

/// Seconds as milliseconds with their unit.
pub fn ms(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found}");
        near(median(&[]), 0.0);
        near(median(&[3.0, 1.0, 2.0]), 2.0);
        near(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
