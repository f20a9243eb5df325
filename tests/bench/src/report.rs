//! A benchmark's results: a table for people, JSON for machines.

use std::fmt;

use serde_json::{Value, json};

/// What one benchmark found.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    /// What the numbers were measured under, a line each.
    notes: Vec<String>,
    results: Vec<Measured>,
}

#[derive(Debug)]
struct Measured {
    metric: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
}

/// What a value is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

// === impl Report ===

impl Report {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, notes: Vec::new(), results: Vec::new() }
    }

    /// Says under what the numbers were measured.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A value with no goal of its own.
    pub(crate) fn add(&mut self, metric: impl Into<String>, value: f64, unit: &'static str) {
        self.results.push(Measured { metric: metric.into(), value, unit, goal: None });
    }

    /// A value that has a goal.
    pub(crate) fn hold(&mut self, metric: impl Into<String>, value: f64, unit: &'static str, goal: Goal) {
        self.results.push(Measured { metric: metric.into(), value, unit, goal: Some(goal) });
    }

    /// Whether a value misses its goal.
    pub(crate) fn is_missed(&self) -> bool {
        self.results.iter().any(|m| match m.goal {
            Some(Goal::AtLeast(goal)) => m.value < goal,
            Some(Goal::AtMost(goal)) => m.value > goal,
            None => false,
        })
    }

    /// `{"name", "results": [{"metric", "value", "unit", "goal", "better"}]}`; `goal` is null where there is none, and
    /// `better` says which way.
    pub(crate) fn json(&self) -> Value {
        let results: Vec<Value> = self
            .results
            .iter()
            .map(|m| {
                let (goal, better) = match m.goal {
                    Some(Goal::AtLeast(goal)) => (Some(goal), "higher"),
                    Some(Goal::AtMost(goal)) => (Some(goal), "lower"),
                    None if m.unit.ends_with("/s") => (None, "higher"),
                    None => (None, "lower"),
                };
                json!({"metric": m.metric, "value": m.value, "unit": m.unit, "goal": goal, "better": better})
            })
            .collect();
        json!({"name": self.name, "notes": self.notes, "results": results})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}", self.name)?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        let width = self.results.iter().map(|m| m.metric.chars().count()).max().unwrap_or(0);
        for m in &self.results {
            write!(f, "{:width$}  {:>12} {:8}", m.metric, number(m.value), m.unit)?;
            match m.goal {
                Some(Goal::AtLeast(goal)) => writeln!(f, "  goal ≥ {:<9} {}", number(goal), verdict(m.value >= goal))?,
                Some(Goal::AtMost(goal)) => writeln!(f, "  goal ≤ {:<9} {}", number(goal), verdict(m.value <= goal))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        let whole = format!("{value:.0}");
        let digits = whole.len();
        whole.chars().enumerate().fold(String::new(), |mut text, (at, digit)| {
            if at > 0 && (digits - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
            text
        })
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_goal_and_direction() {
        let mut report = Report::new("x");
        report.hold("rate", 10.0, "1/s", Goal::AtLeast(5.0));
        report.hold("p99", 10.0, "ms", Goal::AtMost(5.0));
        report.add("other", 1.0, "ms");
        let json = report.json();
        assert_eq!(json["results"][0]["better"], "higher");
        assert_eq!(json["results"][1]["goal"], 5.0);
        assert_eq!(json["results"][2]["goal"], Value::Null);
        assert!(report.to_string().contains("MISSED"));
        assert!(report.is_missed());
    }

    #[test]
    fn a_goal_that_is_met_to_the_last_is_not_missed() {
        let mut report = Report::new("x");
        report.hold("lost", 0.0, "", Goal::AtMost(0.0));
        report.hold("rate", 5.0, "1/s", Goal::AtLeast(5.0));
        assert!(!report.is_missed());
        report.hold("lost", 1.0, "", Goal::AtMost(0.0));
        assert!(report.is_missed());
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(999.6), "1000");
        assert_eq!(number(1.234), "1.23");
    }
}
