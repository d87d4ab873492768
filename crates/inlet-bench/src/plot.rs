//! The plot: what a lookup costs against the number of rules, both on logarithmic scales, as SVG.

use std::fmt::Write;

use crate::lookup::{Report, Row};
use crate::machine::Machine;

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 156.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 104.0;
/// The least distance between labels at the ends of lines.
const LABEL: f64 = 17.0;

struct Line {
    label: &'static str,
    color: &'static str,
    dash: &'static str,
    width: f64,
    /// Not a number where there is no point.
    cost: fn(&Row) -> f64,
}

const LPM: &str = "#c2540a";
const INLET: &str = "#0b62b8";
const GREY: &str = "#777";

const LINES: [Line; 5] = [
    Line { label: "LPM trie, cold", color: LPM, dash: "7 5", width: 2.5, cost: |row| row.cold.lpm },
    Line { label: "Inlet, cold", color: INLET, dash: "7 5", width: 2.5, cost: |row| row.cold.inlet },
    Line { label: "LPM trie, hot", color: LPM, dash: "none", width: 2.5, cost: |row| row.hot.lpm },
    Line { label: "Inlet, hot", color: INLET, dash: "none", width: 2.5, cost: |row| row.hot.inlet },
    Line { label: "no search, hot", color: GREY, dash: "none", width: 1.5, cost: |row| row.hot.give },
];

/// The exponents of ten at both ends of an axis, and where the axis is.
struct Scale {
    first: f64,
    last: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let logs: Vec<f64> = values.map(|value| value.max(1.0).log10()).collect();
        let first = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let last = logs.iter().copied().fold(0.0, f64::max).ceil().max(first + 1.0);
        Self { first, last, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.max(1.0).log10() - self.first) / (self.last - self.first);
        self.start + part * (self.end - self.start)
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.first as i32..=self.last as i32).map(|exponent| 10_f64.powi(exponent))
    }
}

/// The picture of the realistic mixes of a report.
pub(crate) fn lookup(report: &Report, machine: &Machine) -> String {
    let mut rows: Vec<&Row> = report.rows.iter().filter(|row| row.name.starts_with("mix ")).collect();
    rows.sort_by_key(|row| row.rules);
    let costs = rows.iter().flat_map(|row| LINES.iter().map(|line| (line.cost)(row)));
    let y = Scale::over(costs.filter(|cost| cost.is_finite()), HEIGHT - BOTTOM, TOP);
    let x = Scale::over(rows.iter().map(|row| row.rules as f64), LEFT, WIDTH - RIGHT);
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = draw(&mut svg, &rows, &x, &y, machine);
    svg
}

fn draw(svg: &mut String, rows: &[&Row], x: &Scale, y: &Scale, machine: &Machine) -> std::fmt::Result {
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="14" fill="#222">
<title>Time to look up a packet, against the number of rules: Inlet and an LPM trie</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT}" y="30" font-size="18" font-weight="600">Time to look up a packet, above an empty program</text>
<text x="{LEFT}" y="51" fill="#666" font-size="13">{}, Linux {}, {}</text>"##,
        machine.processor, machine.kernel, machine.date
    )?;
    grid(svg, x, y)?;
    for line in &LINES {
        let points: Vec<(f64, f64)> = rows
            .iter()
            .filter(|row| (line.cost)(row).is_finite())
            .map(|row| (x.at(row.rules as f64), y.at((line.cost)(row))))
            .collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let Line { color, dash, width, .. } = line;
        writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="{width}" stroke-dasharray="{dash}" stroke-linejoin="round"/>"#,
            path.join(" ")
        )?;
        for (x, y) in points {
            writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{}" fill="{color}"/>"#, width + 1.0)?;
        }
    }
    labels(svg, rows, x, y)?;
    writeln!(svg, "</svg>")
}

fn grid(svg: &mut String, x: &Scale, y: &Scale) -> std::fmt::Result {
    for cost in y.decades() {
        let at = y.at(cost);
        writeln!(
            svg,
            r##"<line x1="{}" x2="{}" y1="{at:.1}" y2="{at:.1}" stroke="#ddd"/>
<text x="{}" y="{:.1}" text-anchor="end">{} ns</text>"##,
            x.start,
            x.end,
            x.start - 10.0,
            at + 5.0,
            grouped(cost)
        )?;
    }
    for rules in x.decades() {
        let at = x.at(rules);
        writeln!(
            svg,
            r##"<line x1="{at:.1}" x2="{at:.1}" y1="{}" y2="{}" stroke="#eee"/>
<text x="{at:.1}" y="{}" text-anchor="middle">{}</text>"##,
            y.start,
            y.end,
            y.start + 22.0,
            grouped(rules)
        )?;
    }
    let middle = f64::midpoint(x.start, x.end);
    writeln!(svg, r#"<text x="{middle}" y="{}" text-anchor="middle">rules</text>"#, y.start + 46.0)?;
    let notes = [
        "hot: one packet in a loop; cold: different packets, each once, after the caches were displaced",
        "Both programs give the packet to a socket; the grey line is a program that only does that.",
    ];
    for (note, below) in notes.into_iter().zip([34.0, 14.0]) {
        writeln!(svg, r##"<text x="{LEFT}" y="{}" fill="#666" font-size="13">{note}</text>"##, HEIGHT - below)?;
    }
    Ok(())
}

/// The names of the lines at their ends, apart from each other.
fn labels(svg: &mut String, rows: &[&Row], x: &Scale, y: &Scale) -> std::fmt::Result {
    let Some(last) = rows.last() else { return Ok(()) };
    let mut ends: Vec<(f64, &Line)> = LINES.iter().map(|line| (y.at((line.cost)(last)), line)).collect();
    ends.retain(|(at, _)| at.is_finite());
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut above = f64::NEG_INFINITY;
    for (at, line) in ends {
        let at = at.max(above + LABEL);
        above = at;
        let Line { label, color, .. } = line;
        let right = x.at(last.rules as f64) + 12.0;
        writeln!(svg, r#"<text x="{right:.1}" y="{:.1}" fill="{color}" font-weight="600">{label}</text>"#, at + 5.0)?;
    }
    Ok(())
}

/// 1000000 as 1,000,000.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
