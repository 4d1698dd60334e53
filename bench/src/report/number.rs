//! Numbers as people read them.

use crate::table::MICROSECONDS;

/// A number with its unit.
pub(super) fn with_unit(number: f64, unit: &str) -> String {
    if !number.is_finite() {
        return "–".into();
    }
    if unit != MICROSECONDS {
        return if unit == "%" {
            format!("{} %", short(number))
        } else {
            format!("{} {unit}", short(number))
        };
    }
    match number.abs() {
        below if below < 1e3 => format!("{} µs", short(number)),
        below if below < 1e6 => format!("{} ms", short(number / 1e3)),
        _ => format!("{} s", short(number / 1e6)),
    }
}

/// Three digits that mean something, or all before the point.
pub(super) fn short(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 => 0,
        below if below < 0.0995 => 3,
        below if below < 9.95 => 2,
        below if below < 99.5 => 1,
        _ => 0,
    };
    let text = format!("{number:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    };
    grouped(&text)
}

/// With a narrow space between thousands, where there are five digits or more.
fn grouped(text: &str) -> String {
    let (whole, rest) = text
        .split_once('.')
        .map_or((text, ""), |(whole, rest)| (whole, rest));
    let digits = whole.trim_start_matches('-');
    let mut out = String::new();
    if whole.len() > digits.len() {
        out.push('\u{2212}');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len() > 4 && (digits.len() - at) % 3 == 0 {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_is_readable() {
        assert_eq!(with_unit(0.5, "us"), "0.5 µs");
        assert_eq!(with_unit(123.4, "us"), "123 µs");
        assert_eq!(with_unit(2_300.0, "us"), "2.3 ms");
        assert_eq!(with_unit(1.5e6, "us"), "1.5 s");
        assert_eq!(with_unit(12_345.0, "calls/s"), "12\u{202f}345 calls/s");
        assert_eq!(with_unit(-2.0, "%"), "\u{2212}2 %");
        assert_eq!(with_unit(f64::NAN, "us"), "–");
    }
}
