//! The table that `make bench` prints.

use core::fmt::Write as _;

/// What a row must keep to (design.md, budgets).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// No budget of its own.
    None,
    /// Our figure is at most this.
    AtMost(f64),
    /// Our figure is at most this share of the other's.
    Ratio(f64),
}

/// Rows in order, under a head that says what was compared.
#[derive(Debug)]
pub(crate) struct Table {
    head: String,
    other: &'static str,
    rows: Vec<[String; 6]>,
}

impl Table {
    /// An empty table beside dockerd.
    pub(crate) fn new(head: &str) -> Self {
        Self::beside(head, "dockerd")
    }

    /// An empty table beside something else.
    pub(crate) fn beside(head: &str, other: &'static str) -> Self {
        Self { head: head.to_owned(), other, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, what: &str, unit: &str, ours: f64, theirs: f64, budget: Budget) {
        let (text, met) = match budget {
            Budget::None => (String::new(), None),
            Budget::AtMost(most) => (format!("≤ {most} {unit}"), Some(ours <= most)),
            Budget::Ratio(share) => (format!("≤ {share} ×"), Some(ours <= share * theirs)),
        };
        let verdict = met.map_or("", |m| if m { "met" } else { "MISSED" });
        let ratio = if theirs == 0.0 { "–".to_owned() } else { format!("{:.3}", ours / theirs) };
        let named = if unit.is_empty() { what.to_owned() } else { format!("{what}, {unit}") };
        let row = [named, figure(ours), figure(theirs), ratio, text, verdict.to_owned()];
        println!("{}", row.join("  "));
        self.rows.push(row);
    }

    /// The whole table in Markdown.
    pub(crate) fn render(&self) -> String {
        let head = ["", "edgeagent", self.other, "ratio", "budget", ""].map(str::to_owned);
        let all: Vec<&[String; 6]> = [&head].into_iter().chain(&self.rows).collect();
        let width = |i: usize| all.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..6).map(width).collect();
        let mut text = format!("{}\n\n", self.head);
        for (n, row) in all.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(text, "| {cell:width$} ").unwrap();
            }
            text.push_str("|\n");
            if n == 0 {
                for width in &widths {
                    write!(text, "|{}", "-".repeat(width + 2)).unwrap();
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

fn figure(n: f64) -> String {
    if n == 0.0 {
        "0".to_owned()
    } else if n < 10.0 {
        format!("{n:.3}")
    } else {
        format!("{n:.1}")
    }
}
