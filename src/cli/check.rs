//! `check`: what the kernel and the system offer, line by line, and what each gap costs.
//!
//! Looks and tries, changes nothing: what must be tried to be known is tried in a child with
//! namespaces of its own. Needs no agent and no identity.

mod cgroups;
mod kernel;
mod network;
mod place;
mod system;

use std::{fmt::Write as _, fs, path::Path};

use serde::Serialize;

use super::{Check, Failure, print, print_json};
use crate::config::Config;

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// All there.
    Ok,
    /// The agent runs; something that services may ask for does not work.
    Limited,
    /// No task can run here.
    Missing,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at.
    what: &'static str,
    verdict: Verdict,
    /// What is there.
    found: String,
    /// What does not work because of it; empty when all does.
    #[serde(skip_serializing_if = "str::is_empty")]
    costs: &'static str,
    /// What helps; empty when nothing has to.
    #[serde(skip_serializing_if = "str::is_empty")]
    fix: &'static str,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Ok, found: found.into(), costs: "", fix: "" }
    }

    fn limited(
        what: &'static str,
        found: impl Into<String>,
        costs: &'static str,
        fix: &'static str,
    ) -> Self {
        Self { what, verdict: Verdict::Limited, found: found.into(), costs, fix }
    }

    fn missing(
        what: &'static str,
        found: impl Into<String>,
        costs: &'static str,
        fix: &'static str,
    ) -> Self {
        Self { what, verdict: Verdict::Missing, found: found.into(), costs, fix }
    }
}

/// Prints what works here; fails when no task could run.
pub(super) fn check(config: &Config, arguments: &Check) -> Result<(), Failure> {
    let root = Path::new("/");
    let mut findings = kernel::findings(root);
    findings.extend(cgroups::findings(root));
    findings.extend(place::findings(config));
    findings.extend(network::findings(config));
    findings.extend(system::findings(config, root));
    findings.extend(arguments.addresses.iter().map(|address| system::way_to(address)));
    if arguments.json {
        print_json(&findings)?;
    } else {
        print(format_args!("{}", lines(&findings)))?;
    }
    let missing = findings.iter().filter(|finding| finding.verdict == Verdict::Missing).count();
    if missing == 0 {
        return Ok(());
    }
    Err(Failure::plain(format!(
        "{missing} of {} checks say that no task can run here",
        findings.len()
    )))
}

fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, verdict, found, costs, fix } in findings {
        // Writing to a String can not fail.
        let _infallible =
            writeln!(text, "{:<8} {what:<16} {}", verdict.name(), super::plain(found));
        for (name, value) in [("costs", costs), ("fix", fix)] {
            if !value.is_empty() {
                let _infallible = writeln!(text, "{:<25} {name}: {value}", "");
            }
        }
    }
    text
}

/// A file of the kernel as text; empty when it is not there.
fn text_of(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_shown_with_its_cost_and_its_remedy() {
        let text = lines(&[
            Finding::ok("kernel", "6.1.0"),
            Finding::limited("clock", "1970", "no joining", "set it"),
        ]);
        let blank = " ".repeat(25);
        assert_eq!(
            text,
            format!(
                "ok       kernel           6.1.0\nlimited  clock            1970\n{blank} costs: no \
                 joining\n{blank} fix: set it\n"
            )
        );
    }
}
