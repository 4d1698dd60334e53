//! The page: one file that needs no other.

use std::fmt::Write as _;

use super::number::{short, with_unit};
use super::plot::{self, Plot};
use super::{Of, Run};
use crate::Failure;
use crate::figure::{Figure, Quoted};
use crate::table::Row;

const STYLE: &str = include_str!("style.css");

const ROW_HEAD: &str = "<tr><th></th><th>median</th><th>p90</th><th>p99</th><th>samples</th>\
                        <th>× floor</th><th>ratio</th><th class=\"words\">of</th></tr>\n";

pub(super) fn of(run: &Run) -> Result<String, Failure> {
    let mut page = String::new();
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>refunction: what was measured</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>What a restore costs, next to what it replaces</h1>\n\
         <p>Everything here was measured on one machine, and in one run unless results of earlier \
         ones were kept; what is from other hardware says so. Times move with the machine; ratios are what to quote. Points and \
         bars are medians; the thin line beside one goes on to its 90th percentile. The floor is \
         what no restore can beat: two context switches, a copy of what the function changed, \
         and one look for it.</p>\n"
    )?;
    conditions(&mut page, run)?;
    let figures = figures(run)?;
    contents(&mut page, run, &figures)?;
    promises(&mut page, run)?;
    for (figure, plot) in &figures {
        draw(&mut page, run, figure, plot)?;
    }
    results(&mut page, run)?;
    not_run(&mut page, run)?;
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

/// Text as HTML.
fn text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn heading(figure: &Figure) -> String {
    if figure
        .id
        .starts_with(|letter: char| letter.is_ascii_digit())
    {
        format!("Figure {}: {}", figure.id, figure.title)
    } else {
        figure.title.to_string()
    }
}

/// What is the same of all parts.
fn conditions(page: &mut String, run: &Run) -> std::fmt::Result {
    let mut all = run.conditions.values();
    let Some(first) = all.next() else {
        return Ok(());
    };
    let common = first.iter().filter(|(name, value)| {
        run.conditions
            .values()
            .all(|it| it.get(*name) == Some(*value))
    });
    page.push_str("<dl>\n");
    for (name, value) in common {
        writeln!(page, "<dt>{}</dt><dd>{}</dd>", text(name), text(value))?;
    }
    page.push_str("</dl>\n");
    Ok(())
}

fn figures(run: &Run) -> Result<Vec<(&Figure, Plot)>, Failure> {
    let mut figures = Vec::new();
    for figure in &run.figures {
        let rows: Vec<_> = rows_of(run, figure).collect();
        let quoted: Vec<_> = quoted_of(run, figure).collect();
        if let Some(plot) = plot::of(figure, &rows, &quoted)? {
            figures.push((figure, plot));
        }
    }
    Ok(figures)
}

fn rows_of<'run>(run: &'run Run, figure: &'run Figure) -> impl Iterator<Item = &'run Row> {
    let rows = run.results.iter().map(|it| &it.it);
    rows.filter(|row| row.figure.as_ref() == Some(&figure.id))
}

fn quoted_of<'run>(run: &'run Run, figure: &'run Figure) -> impl Iterator<Item = &'run Quoted> {
    let quoted = run.quoted.iter();
    quoted.filter(|it| it.figure.as_ref() == Some(&figure.id))
}

fn contents(page: &mut String, run: &Run, figures: &[(&Figure, Plot)]) -> std::fmt::Result {
    page.push_str("<nav>\n");
    if !run.promises.is_empty() {
        page.push_str("<a href=\"#promises\">What is promised</a>\n");
    }
    for (figure, _) in figures {
        let (id, heading) = (text(&figure.id), text(&heading(figure)));
        writeln!(page, "<a href=\"#figure-{id}\">{heading}</a>")?;
    }
    page.push_str("<a href=\"#results\">Everything that was measured</a>\n");
    if !run.not_run.is_empty() {
        page.push_str("<a href=\"#not-run\">What was not measured, and why</a>\n");
    }
    page.push_str("</nav>\n");
    Ok(())
}

fn promises(page: &mut String, run: &Run) -> std::fmt::Result {
    if run.promises.is_empty() {
        return Ok(());
    }
    let kept = run.promises.iter().filter(|it| it.it.kept).count();
    write!(
        page,
        "<h2 id=\"promises\">What is promised</h2>\n<p>{kept} of {} promises were kept in this \
         run.</p>\n<div class=\"wide\"><table>\n<tr><th></th><th>measured</th><th>at most</th>\
         <th></th></tr>\n",
        run.promises.len()
    )?;
    for Of { part, it } in &run.promises {
        let (class, word) = if it.kept {
            ("kept", "kept")
        } else {
            ("broken", "broken")
        };
        writeln!(
            page,
            "<tr><td>{} <span class=\"quiet\">{}</span></td><td>{}</td><td>{}</td>\
             <td class=\"{class}\">{word}</td></tr>",
            text(&it.what),
            text(part),
            small(it.measured),
            small(it.at_most),
        )?;
    }
    page.push_str("</table></div>\n");
    Ok(())
}

/// A ratio; as a fraction, if it is much below one or is one.
fn small(ratio: f64) -> String {
    let parts = (1.0 / ratio).round();
    let is_fraction = ratio < 0.3 && (parts * ratio - 1.0).abs() < 1e-9;
    if ratio > 0.0 && (ratio < 0.1 || is_fraction) {
        format!("1/{}", short(parts))
    } else {
        short(ratio)
    }
}

fn draw(page: &mut String, run: &Run, figure: &Figure, plot: &Plot) -> std::fmt::Result {
    write!(
        page,
        "<figure id=\"figure-{}\">\n<h3>{}</h3>\n<figcaption>{}</figcaption>\n\
         <div class=\"legend\">",
        text(&figure.id),
        text(&heading(figure)),
        text(&figure.caption),
    )?;
    for (colour, name) in &plot.legend {
        let name = text(name);
        write!(page, "<span><i data-colour=\"{colour}\"></i>{name}</span>")?;
    }
    let title = text(&heading(figure));
    let picture = plot.picture.replacen(
        "<svg",
        &format!("<svg role=\"img\" aria-label=\"{title}\""),
        1,
    );
    write!(
        page,
        "</div>\n{picture}\n<details><summary>The numbers</summary>\n<div class=\"wide\">\
         <table>\n{ROW_HEAD}"
    )?;
    for row in rows_of(run, figure) {
        table_row(page, row)?;
    }
    for it in quoted_of(run, figure) {
        let at =
            it.x.map_or_else(String::new, |x| format!(" at {}", short(x)));
        writeln!(
            page,
            "<tr class=\"quoted\"><td>{}{at}: {}, on other hardware</td><td>{}</td>{}</tr>",
            text(&it.name),
            text(&it.source),
            with_unit(it.value, &it.unit),
            "<td></td>".repeat(6),
        )?;
    }
    page.push_str("</table></div>\n</details>\n</figure>\n");
    Ok(())
}

fn table_row(page: &mut String, row: &Row) -> std::fmt::Result {
    let number = |number| with_unit(number, &row.unit);
    let or_nothing = |number: Option<f64>| number.map_or_else(String::new, short);
    writeln!(
        page,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td class=\"words\">{}</td></tr>",
        text(&row.name),
        number(row.median),
        number(row.p90),
        number(row.p99),
        row.samples,
        or_nothing(row.floors),
        row.ratio.map_or_else(String::new, small),
        text(row.against.as_deref().unwrap_or_default()),
    )
}

fn results(page: &mut String, run: &Run) -> std::fmt::Result {
    page.push_str("<h2 id=\"results\">Everything that was measured</h2>\n");
    for (part, conditions) in &run.conditions {
        let rows: Vec<_> = run.results.iter().filter(|it| it.part == *part).collect();
        if rows.is_empty() {
            continue;
        }
        write!(
            page,
            "<details><summary>{}: {} rows</summary>\n<dl>\n",
            text(part),
            rows.len()
        )?;
        for (name, value) in conditions {
            writeln!(page, "<dt>{}</dt><dd>{}</dd>", text(name), text(value))?;
        }
        write!(page, "</dl>\n<div class=\"wide\"><table>\n{ROW_HEAD}")?;
        for row in rows {
            table_row(page, &row.it)?;
        }
        page.push_str("</table></div>\n</details>\n");
    }
    Ok(())
}

fn not_run(page: &mut String, run: &Run) -> std::fmt::Result {
    if run.not_run.is_empty() {
        return Ok(());
    }
    page.push_str("<h2 id=\"not-run\">What was not measured, and why</h2>\n<dl>\n");
    for (part, reasons) in &run.not_run {
        for (name, reason) in reasons {
            let (part, name, reason) = (text(part), text(name), text(reason));
            writeln!(page, "<dt>{part}: {name}</dt><dd>{reason}</dd>")?;
        }
    }
    page.push_str("</dl>\n");
    Ok(())
}
