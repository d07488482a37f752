//! The plot of growth: what a message costs and what tunnels take, from few of them to many. Text of an SVG.

use std::fmt::Write as _;

use crate::compare::{Metric, Samples};
use crate::contestant::Contestant::{self, Haproxy, Lavaproxy, Nginx, Pipe};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 330.0;
/// Of each of the two panels, inside the axes.
const PANEL: (f64, f64) = (340.0, 220.0);
const TOP: f64 = 50.0;
const LEFTS: [f64; 2] = [60.0, 490.0];
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// One metric over the number of tunnels, which is on a logarithmic scale.
struct Panel {
    left: f64,
    tunnels: Scale,
    steps: Vec<f64>,
    values: Scale,
    marks: Vec<f64>,
    lines: Vec<(Contestant, Vec<(f64, f64)>)>,
}

/// Where values lie between 0 and 1.
#[derive(Clone, Copy)]
enum Scale {
    Linear { most: f64 },
    Logarithmic { least: f64, most: f64 },
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { most } => value / most,
            Self::Logarithmic { least, most } => (value.max(least) / least).ln() / (most / least).ln(),
        };
        place.clamp(0.0, 1.0)
    }
}

/// The two panels.
pub fn svg(growth: &[(usize, Samples)]) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\">\n\
         <title>CPU for a message and memory of all tunnels, by the number of tunnels</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let cpu = lines(growth, Metric::Cpu, 1e6);
    let most = round_up(values(&cpu).fold(1.0, f64::max));
    let marks = (0..=4).map(|part| most * f64::from(part) / 4.0).collect();
    Panel::new(LEFTS[0], growth, cpu, Scale::Linear { most }, marks)
        .draw(&mut text, "CPU for a message and its echo, µs");

    let memory = lines(growth, Metric::Memory, 1.0 / MEBIBYTE);
    let most = 10f64.powf(values(&memory).fold(10.0, f64::max).log10().ceil());
    let marks = (0..=3).map(|power| 10f64.powi(power)).filter(|mark| *mark <= most).collect();
    Panel::new(LEFTS[1], growth, memory, Scale::Logarithmic { least: 1.0, most }, marks)
        .draw(&mut text, "memory in all, the kernel's included, MiB");
    legend(&mut text);
    text.push_str("</svg>\n");
    text
}

type Lines = Vec<(Contestant, Vec<(f64, f64)>)>;

fn lines(growth: &[(usize, Samples)], metric: Metric, unit: f64) -> Lines {
    let line = |contestant| {
        let point =
            |(count, samples): &(usize, Samples)| Some((*count as f64, samples.median(contestant, metric)? * unit));
        (contestant, growth.iter().filter_map(point).collect())
    };
    [Lavaproxy, Haproxy, Nginx, Pipe].into_iter().map(line).collect()
}

fn values(lines: &Lines) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|(_, points)| points.iter().map(|(_, value)| *value))
}

impl Panel {
    fn new(left: f64, growth: &[(usize, Samples)], lines: Lines, values: Scale, marks: Vec<f64>) -> Self {
        let steps: Vec<_> = growth.iter().map(|(count, _)| *count as f64).collect();
        let (least, most) = (steps.first().copied().unwrap_or(1.0), steps.last().copied().unwrap_or(1.0));
        Self { left, tunnels: Scale::Logarithmic { least, most }, steps, values, marks, lines }
    }

    fn draw(&self, text: &mut String, title: &str) {
        let (left, bottom, right) = (self.left, TOP + PANEL.1, self.left + PANEL.0);
        let _ = writeln!(text, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", TOP - 18.0);
        for mark in &self.marks {
            let y = self.y(*mark);
            let _ = writeln!(text, "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#dddddd\"/>");
            let (x, y) = (left - 6.0, y + 4.0);
            let _ = writeln!(text, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{mark}</text>");
        }
        for step in &self.steps {
            let (x, y) = (self.x(*step), bottom + 18.0);
            let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{step}</text>");
        }
        let (x, y) = (left + PANEL.0 / 2.0, bottom + 36.0);
        let axis = "tunnels, 5 messages a second on each";
        let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{axis}</text>");
        for (contestant, points) in &self.lines {
            self.draw_line(text, *contestant, points);
        }
    }

    fn draw_line(&self, text: &mut String, contestant: Contestant, points: &[(f64, f64)]) {
        let color = color(contestant);
        let places: Vec<_> = points.iter().map(|(count, value)| (self.x(*count), self.y(*value))).collect();
        let path: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (path, width) = (path.join(" "), if contestant == Lavaproxy { 3 } else { 2 });
        let stroke = format!("stroke=\"{color}\" stroke-width=\"{width}\"");
        let _ = writeln!(text, "<polyline points=\"{path}\" fill=\"none\" {stroke}/>");
        for (x, y) in places {
            let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
        }
    }

    fn x(&self, count: f64) -> f64 {
        self.left + self.tunnels.place(count) * PANEL.0
    }

    fn y(&self, value: f64) -> f64 {
        TOP + PANEL.1 * (1.0 - self.values.place(value))
    }
}

fn legend(text: &mut String) {
    for (index, contestant) in [Lavaproxy, Haproxy, Nginx, Pipe].into_iter().enumerate() {
        let (x, y) = (LEFTS[0] + 110.0 * index as f64, HEIGHT - 8.0);
        let (color, name) = (color(contestant), contestant.name());
        let _ = writeln!(text, "<circle cx=\"{x}\" cy=\"{:.1}\" r=\"5\" fill=\"{color}\"/>", y - 4.0);
        let _ = writeln!(text, "<text x=\"{}\" y=\"{y}\">{name}</text>", x + 10.0);
    }
}

/// Colours that colour-blind readers can tell apart.
fn color(contestant: Contestant) -> &'static str {
    match contestant {
        Lavaproxy => "#d55e00",
        Haproxy => "#0072b2",
        Nginx => "#009e73",
        _ => "#999999",
    }
}

/// The least round number that is not below.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}
