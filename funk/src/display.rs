//! Numbers and tables for people.

use std::io::{self, Write};

/// Microseconds in the unit a person would use.
pub(crate) fn duration_us(us: u64) -> String {
    duration_ns(us.saturating_mul(1000))
}

/// Nanoseconds in the unit a person would use.
pub(crate) fn duration_ns(ns: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", three(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", three(value / 1e6)),
        _ => format!("{} s", three(value / 1e9)),
    }
}

/// Three digits that count.
fn three(value: f64) -> String {
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$}")
}

/// Bytes in the unit a person would use.
pub(crate) fn bytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let value = bytes as f64;
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", short(value / 1024.0)),
        1_048_576..1_073_741_824 => format!("{} MiB", short(value / 1_048_576.0)),
        _ => format!("{} GiB", short(value / 1_073_741_824.0)),
    }
}

fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0")
        .map_or_else(|| text.clone(), str::to_owned)
}

/// How long ago a time was, both in milliseconds since the Unix epoch.
pub(crate) fn age(then_ms: i64, now_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(then_ms).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Writes rows under headings, in columns.
pub(crate) fn table<const N: usize>(
    to: &mut impl Write,
    headings: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(to, "{}", text.trim_end())
    };
    line(headings)?;
    for row in rows {
        line(row.each_ref().map(String::as_str))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_readable_units() {
        assert_eq!(duration_ns(999), "999 ns");
        assert_eq!(duration_us(412), "412 µs");
        assert_eq!(duration_us(1_234), "1.23 ms");
        assert_eq!(duration_us(12_345), "12.3 ms");
        assert_eq!(duration_us(2_500_000), "2.50 s");
    }

    #[test]
    fn sizes_have_readable_units() {
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes((1 << 30) + (1 << 29)), "1.5 GiB");
    }

    #[test]
    fn ages_are_rough() {
        assert_eq!(age(0, 59_999), "59s");
        assert_eq!(age(0, 3_600_000), "1h");
        assert_eq!(age(10, 0), "0s");
    }

    #[test]
    fn columns_are_aligned() {
        let mut text = Vec::new();
        let rows = [["aa".to_owned(), "µ".to_owned()], ["b".into(), "c".into()]];
        table(&mut text, ["ID", "X"], &rows).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "ID  X\naa  µ\nb   c\n");
    }
}
