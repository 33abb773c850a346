//! Figures, for people.

use std::fmt;

/// What is aimed at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound:.2}"),
            Self::AtMost(bound) => write!(f, "<= {bound:.2}"),
        }
    }
}

/// One line: a ratio to a limit, where it should be, and what it was made from.
#[derive(Debug)]
pub(crate) struct Figure {
    pub id: &'static str,
    pub what: String,
    pub ratio: Spread,
    pub target: Option<Goal>,
    pub stretch: Option<Goal>,
    pub absolute: String,
}

pub(crate) fn heading() {
    let (id, what, ratio) = ("id", "what", "ratio");
    println!("{id:<4}{what:<50}{ratio:<24}{:<15}{:<13}absolute", "target", "stretch");
}

impl Figure {
    pub(crate) fn print(&self) {
        let Self { id, what, ratio, target, stretch, absolute } = self;
        let goal = |goal: &Option<Goal>, met: &str| match goal {
            None => "-".to_owned(),
            Some(goal) if goal.is_met(ratio.median) => format!("{goal} {met}"),
            Some(goal) => format!("{goal}"),
        };
        let (target, stretch) = (goal(target, "met"), goal(stretch, "met"));
        println!("{id:<4}{what:<50}{:<24}{target:<15}{stretch:<13}{absolute}", ratio.to_string());
    }
}

/// Median, least and most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median, least, most }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { median, least, most } = self;
        write!(f, "{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}
