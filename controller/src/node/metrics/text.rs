//! Prometheus's text format, 0.0.4.

use std::fmt::{Display, Write};

use super::Histogram;

/// Powers of two of microseconds, from 64 µs to 67 s, that histograms have a series for.
const EXPONENTS: std::ops::RangeInclusive<u32> = 6..=26;

/// What a sample is told apart by.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page of it, as far as it is written.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            self.escaped(value);
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A bound counts as part of its bucket, and in a [`Histogram`] it does not: the two differ
    /// in what took a power of two of microseconds and not a nanosecond more.
    pub(super) fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let mut with_bound = |bound: &str, count: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            self.sample(&bucket, &labels, count);
        };
        for exponent in EXPONENTS {
            let bound = seconds(1 << exponent);
            with_bound(&bound, histogram.below(exponent));
        }
        with_bound("+Inf", histogram.count());
        let micros = u64::try_from(histogram.sum().as_micros()).unwrap_or(u64::MAX);
        self.sample(&format!("{name}_sum"), labels, seconds(micros));
        self.sample(&format!("{name}_count"), labels, histogram.count());
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// All of its digits.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn seconds_have_no_more_digits_than_they_need() {
        assert_eq!(seconds(0), "0");
        assert_eq!(seconds(64), "0.000064");
        assert_eq!(seconds(1_500_000), "1.5");
        assert_eq!(seconds(10_000_000), "10");
    }

    #[test]
    fn labels_cannot_break_out() {
        let mut text = Text::default();
        text.sample("a", &[("b", "\"}\\\n"), ("c", "ü")], 1);
        text.sample("d", &[], 2);
        assert_eq!(text.finish(), "a{b=\"\\\"}\\\\\\n\",c=\"ü\"} 1\nd 2\n");
    }

    #[test]
    fn a_histogram_grows_from_bucket_to_bucket() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::from_micros(100));
        histogram.add(Duration::from_secs(100));
        let mut text = Text::default();
        text.histogram("a", &[("f", "x")], &histogram);
        let text = text.finish();
        assert_eq!(text.lines().count(), 21 + 3, "{text}");
        for line in [
            "a_bucket{f=\"x\",le=\"0.000064\"} 0",
            "a_bucket{f=\"x\",le=\"0.000128\"} 1",
            "a_bucket{f=\"x\",le=\"67.108864\"} 1",
            "a_bucket{f=\"x\",le=\"+Inf\"} 2",
            "a_sum{f=\"x\"} 100.0001",
            "a_count{f=\"x\"} 2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
}
