//! A figure as a picture. Its colours are names: the page gives each another in the dark.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::number::{short, with_unit};
use crate::Failure;
use crate::figure::{Figure, Quoted};
use crate::table::Row;

const WIDTH: u32 = 860;
const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
const MUTED: RGBColor = RGBColor(0x6a, 0x72, 0x7b);
const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
/// Of what others published.
const QUOTED: RGBColor = RGBColor(0xb4, 0x53, 0x09);
/// Of the series, in their order.
const SERIES: [RGBColor; 6] = [
    RGBColor(0x0f, 0x76, 0x8c),
    RGBColor(0x8a, 0x4f, 0xbf),
    RGBColor(0x2f, 0x85, 0x4a),
    RGBColor(0xc0, 0x39, 0x5b),
    RGBColor(0x5b, 0x6b, 0xd6),
    RGBColor(0x8d, 0x6e, 0x1f),
];

/// A picture, and what its colours mean.
pub(super) struct Plot {
    /// SVG.
    pub(super) picture: String,
    /// Colours and what they stand for.
    pub(super) legend: Vec<(String, String)>,
}

/// A figure's rows; none if it has none to show.
pub(super) fn of(
    figure: &Figure,
    rows: &[&Row],
    quoted: &[&Quoted],
) -> Result<Option<Plot>, Failure> {
    let mut series: Vec<&str> = Vec::new();
    for row in rows {
        let name = row.series.as_deref().unwrap_or_default();
        if !series.contains(&name) {
            series.push(name);
        }
    }
    if series.is_empty() {
        return Ok(None);
    }
    let colour = |row: &Row| {
        let name = row.series.as_deref().unwrap_or_default();
        let at = series.iter().position(|it| *it == name).unwrap_or(0);
        SERIES[at % SERIES.len()]
    };
    let picture = if rows.iter().any(|row| row.x.is_some()) {
        lines(figure, rows, quoted, &series, colour)?
    } else {
        bars(figure, rows, quoted, colour)?
    };
    let mut legend: Vec<_> = series
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.is_empty())
        .map(|(at, name)| (hexadecimal(SERIES[at % SERIES.len()]), (*name).to_owned()))
        .collect();
    if let Some(quoted) = quoted.first() {
        let name = format!("{}, on other hardware", quoted.source);
        legend.push((hexadecimal(QUOTED), name));
    }
    Ok(Some(Plot { picture, legend }))
}

fn hexadecimal(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// An axis: where numbers are on it, and which are written at it.
struct Axis {
    is_logarithmic: bool,
    start: f64,
    end: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// One that shows all of these.
    fn of(numbers: impl Iterator<Item = f64>, is_logarithmic: bool) -> Self {
        let numbers = numbers.filter(|it| it.is_finite() && (!is_logarithmic || *it > 0.0));
        let (least, most) = numbers
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), it| {
                (least.min(it), most.max(it))
            });
        if is_logarithmic {
            Self::logarithmic(least, most)
        } else {
            Self::linear(least.min(0.0), most)
        }
    }

    fn logarithmic(least: f64, most: f64) -> Self {
        let (least, most) = if least.is_finite() {
            (least, most)
        } else {
            (1.0, 10.0)
        };
        let (start, end) = (least.log10() - 0.1, most.log10() + 0.1);
        let factors: &[f64] = match end - start {
            few if few < 1.2 => &[1.0, 2.0, 3.0, 5.0, 7.0],
            few if few < 2.2 => &[1.0, 2.0, 5.0],
            few if few < 4.2 => &[1.0, 3.0],
            _ => &[1.0],
        };
        // Exponents of numbers that were measured are small.
        let decades = start.floor() as i32..=end.ceil() as i32;
        let ticks = decades
            .flat_map(|decade| factors.iter().map(move |it| it.log10() + f64::from(decade)))
            .filter(|it| (start..=end).contains(it))
            .collect();
        Self {
            is_logarithmic: true,
            start,
            end,
            ticks,
        }
    }

    fn linear(least: f64, most: f64) -> Self {
        let (least, most) = if most > least {
            (least, most)
        } else {
            (0.0, 1.0)
        };
        let rough = (most - least) / 6.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|factor| factor * decade)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let first = (least / step).ceil() as i64;
        let last = (most / step).floor() as i64;
        let margin = (most - least) * 0.04;
        Self {
            is_logarithmic: false,
            start: if least < 0.0 { least - margin } else { least },
            end: most + margin,
            ticks: (first..=last).map(|number| number as f64 * step).collect(),
        }
    }

    /// Where it is.
    fn place(&self, number: f64) -> f64 {
        if self.is_logarithmic {
            number.max(f64::MIN_POSITIVE).log10().max(self.start)
        } else {
            number
        }
    }

    /// What is there.
    fn number(&self, place: f64) -> f64 {
        if self.is_logarithmic {
            10f64.powf(place)
        } else {
            place
        }
    }

    fn range(&self) -> Marked {
        Marked {
            range: self.start..self.end,
            ticks: self.ticks.clone(),
        }
    }
}

/// Plotters' part of an axis.
struct Marked {
    range: std::ops::Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Marked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (f64::from(to - from) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.clone()
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn text(size: i32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

fn unit_of(rows: &[&Row]) -> String {
    rows.first()
        .map_or_else(String::new, |row| row.unit.to_string())
}

fn lines(
    figure: &Figure,
    rows: &[&Row],
    quoted: &[&Quoted],
    series: &[&str],
    colour: impl Fn(&Row) -> RGBColor,
) -> Result<String, Failure> {
    let unit = unit_of(rows);
    let xs = rows.iter().filter_map(|row| row.x);
    let x = Axis::of(
        xs.chain(quoted.iter().filter_map(|it| it.x)),
        figure.is_x_logarithmic,
    );
    let ys = rows.iter().flat_map(|row| [row.median, row.p90]);
    let y = Axis::of(
        ys.chain(quoted.iter().map(|it| it.value)),
        figure.is_y_logarithmic,
    );
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, (WIDTH, 380)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin_top(14)
            .margin_right(22)
            .x_label_area_size(50)
            .y_label_area_size(82)
            .build_cartesian_2d(x.range(), y.range())?;
        chart
            .configure_mesh()
            .axis_style(GRID)
            .set_all_tick_mark_size(6)
            .max_light_lines(0)
            .bold_line_style(GRID)
            .label_style(text(14, MUTED))
            .axis_desc_style(text(14, MUTED))
            .x_label_formatter(&|place| short(x.number(*place)))
            .y_label_formatter(&|place| with_unit(y.number(*place), &unit))
            .x_desc(figure.x.as_ref())
            .draw()?;
        for name in series {
            let points: Vec<_> = rows
                .iter()
                .filter(|row| row.series.as_deref().unwrap_or_default() == *name)
                .filter_map(|row| Some((x.place(row.x?), row)))
                .collect();
            let Some((_, first)) = points.first() else {
                continue;
            };
            let colour = colour(first);
            for (at, row) in &points {
                let tail = [(*at, y.place(row.median)), (*at, y.place(row.p90))];
                let style = colour.mix(0.45).stroke_width(2);
                chart.draw_series([PathElement::new(tail, style)])?;
            }
            let line = points.iter().map(|(at, row)| (*at, y.place(row.median)));
            chart.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
            chart.draw_series(line.map(|at| Circle::new(at, 4, colour.filled())))?;
        }
        for it in quoted {
            let value = y.place(it.value);
            match it.x {
                Some(at) => {
                    let mark = TriangleMarker::new((x.place(at), value), 6, QUOTED.filled());
                    chart.draw_series([mark])?;
                }
                None => {
                    let across = [(x.start, value), (x.end, value)];
                    chart.draw_series([PathElement::new(across, QUOTED.stroke_width(1))])?;
                }
            }
        }
        area.present()?;
    }
    Ok(picture)
}

/// One bar.
struct Bar {
    label: String,
    value: f64,
    tail: f64,
    unit: String,
    colour: RGBColor,
}

/// Those of one label together.
fn groups(
    rows: &[&Row],
    quoted: &[&Quoted],
    colour: impl Fn(&Row) -> RGBColor,
) -> Vec<(String, Vec<Bar>)> {
    let measured = rows.iter().map(|row| {
        let series = row.series.as_deref().unwrap_or_default();
        let label = row.name.strip_suffix(series).unwrap_or(&row.name);
        let label = label.trim_end().trim_end_matches(':');
        Bar {
            label: if label.is_empty() { series } else { label }.to_owned(),
            value: row.median,
            tail: row.p90,
            unit: row.unit.to_string(),
            colour: colour(row),
        }
    });
    let quoted = quoted.iter().map(|it| Bar {
        label: it.name.to_string(),
        value: it.value,
        tail: it.value,
        unit: it.unit.to_string(),
        colour: QUOTED,
    });
    let mut groups: Vec<(String, Vec<Bar>)> = Vec::new();
    for bar in measured.chain(quoted) {
        match groups.iter_mut().find(|(label, _)| *label == bar.label) {
            Some((_, bars)) => bars.push(bar),
            None => groups.push((bar.label.clone(), vec![bar])),
        }
    }
    groups
}

fn bars(
    figure: &Figure,
    rows: &[&Row],
    quoted: &[&Quoted],
    colour: impl Fn(&Row) -> RGBColor,
) -> Result<String, Failure> {
    const BAR: i32 = 17;
    const APART: i32 = 13;
    const BELOW: i32 = 48;
    const LETTER: i32 = 8;
    const BESIDE: i32 = 84;
    let unit = unit_of(rows);
    let groups = groups(rows, quoted, colour);
    let all = || groups.iter().flat_map(|(_, bars)| bars);
    let mut axis = Axis::of(
        all().flat_map(|bar| [bar.value, bar.tail]),
        figure.is_y_logarithmic,
    );
    if axis.is_logarithmic {
        // The least is to have a length, too.
        axis.start -= 0.15 * (axis.end - axis.start);
    }
    let longest = groups.iter().map(|(label, _)| label.chars().count());
    // Labels have tens of letters.
    let left = (longest.max().unwrap_or(0) as i32 * LETTER + 16).clamp(60, 300);
    let height = groups
        .iter()
        .map(|(_, bars)| bars.len() as i32 * BAR + APART)
        .sum::<i32>();
    let mut picture = String::new();
    {
        let size = (WIDTH, u32::try_from(height + BELOW)?);
        let area = SVGBackend::with_string(&mut picture, size).into_drawing_area();
        let right = WIDTH as i32 - BESIDE;
        let range = axis.range();
        let across = |number: f64| range.map(&axis.place(number), (left, right));
        for tick in &axis.ticks {
            let at = range.map(tick, (left, right));
            area.draw(&PathElement::new([(at, 0), (at, height)], GRID))?;
            let style = text(14, MUTED).pos(Pos::new(HPos::Center, VPos::Top));
            let label = with_unit(axis.number(*tick), &unit);
            area.draw(&Text::new(label, (at, height + 6), style))?;
        }
        let style = text(14, MUTED).pos(Pos::new(HPos::Center, VPos::Top));
        let middle = ((left + right) / 2, height + 26);
        area.draw(&Text::new(figure.y.to_string(), middle, style))?;
        let base = if axis.is_logarithmic {
            left
        } else {
            across(0.0)
        };
        let mut top = APART / 2;
        for (label, bars) in &groups {
            let centre = top + bars.len() as i32 * BAR / 2;
            let style = text(15, INK).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(label.clone(), (left - 10, centre), style))?;
            for bar in bars {
                draw(
                    &area,
                    bar,
                    (base, across(bar.value), across(bar.tail)),
                    (top, BAR),
                )?;
                top += BAR;
            }
            top += APART;
        }
        area.present()?;
    }
    Ok(picture)
}

/// A bar, its tail, and its number at the end.
fn draw(
    area: &Area<'_>,
    bar: &Bar,
    (base, end, tail): (i32, i32, i32),
    (top, thickness): (i32, i32),
) -> Result<(), Failure> {
    let middle = top + thickness / 2;
    let (start, stop) = (base.min(end), base.max(end));
    let corners = [(start, top + 1), (stop.max(start + 2), top + thickness - 2)];
    area.draw(&Rectangle::new(corners, bar.colour.filled()))?;
    let style = bar.colour.mix(0.45).stroke_width(2);
    area.draw(&PathElement::new([(end, middle), (tail, middle)], style))?;
    let style = text(13, MUTED).pos(Pos::new(HPos::Left, VPos::Center));
    let number = with_unit(bar.value, &bar.unit);
    area.draw(&Text::new(number, (stop.max(tail) + 6, middle), style))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_numbers_that_are_on_it() {
        for (most, is_logarithmic) in [(150.0, false), (100_000.0, true), (0.7, false)] {
            let axis = Axis::of([0.5, most].into_iter(), is_logarithmic);
            assert!(axis.ticks.len() > 2, "{most}: {:?}", axis.ticks);
            let is_on_it = |tick: &f64| (axis.start..=axis.end).contains(tick);
            assert!(axis.ticks.iter().all(is_on_it));
        }
    }

    #[test]
    fn bars_of_one_label_stand_together() {
        let row = |name: &str, series: &'static str| {
            Row::of(name, "us", vec![1.0]).on("10", series, None)
        };
        let rows = [
            row("python: rewind", "rewind"),
            row("node: rewind", "rewind"),
            row("python: fork", "fork"),
        ];
        let groups = groups(&rows.iter().collect::<Vec<_>>(), &[], |_| INK);
        let labels: Vec<_> = groups
            .iter()
            .map(|(label, all)| (label.as_str(), all.len()))
            .collect();
        assert_eq!(labels, [("python", 2), ("node", 1)]);
    }
}
