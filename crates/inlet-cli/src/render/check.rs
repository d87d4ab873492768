//! What a check found.

use inlet::{Checkup, Finding, Severity};
use serde::Serialize;

use super::{Screen, counted, palette::paint, printable};
use crate::failure::Failure;

#[derive(Serialize)]
struct Report<'a> {
    findings: Vec<FindingReport<'a>>,
    unchecked: &'a [String],
}

#[derive(Serialize)]
struct FindingReport<'a> {
    severity: &'static str,
    code: &'static str,
    what: &'a str,
    why: &'a str,
    fix: &'a str,
}

/// Shows what was found; `quiet` leaves out what needs no attention.
pub(crate) fn checkup(screen: &mut Screen<'_>, checkup: &Checkup, quiet: bool) -> Result<(), Failure> {
    let shown = checkup.findings.iter().filter(|finding| !quiet || finding.severity != Severity::Note);
    if screen.json {
        let findings = shown.map(FindingReport::from).collect();
        return screen.document(&Report { findings, unchecked: &checkup.unchecked });
    }
    for finding in shown {
        let style = match finding.severity {
            Severity::Error => screen.palette.bad,
            Severity::Warning => screen.palette.changed,
            Severity::Note => screen.palette.heading,
        };
        let Finding { what, why, fix, .. } = finding;
        writeln!(screen.out, "{}: {}", paint(style, severity(finding.severity)), printable(what))?;
        writeln!(screen.out, "  why:  {}", printable(why))?;
        writeln!(screen.out, "  fix:  {}", printable(fix))?;
    }
    if quiet {
        return Ok(());
    }
    for unchecked in &checkup.unchecked {
        writeln!(screen.out, "not checked: {}", printable(unchecked))?;
    }
    let count = |wanted| checkup.findings.iter().filter(|finding| finding.severity == wanted).count();
    let counts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counts: Vec<String> = counts.map(|(severity, noun)| counted(count(severity), noun)).into();
    Ok(writeln!(screen.out, "{}", counts.join(", "))?)
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

impl<'a> From<&'a Finding> for FindingReport<'a> {
    fn from(finding: &'a Finding) -> Self {
        let Finding { code, what, why, fix, .. } = finding;
        Self { severity: severity(finding.severity), code, what, why, fix }
    }
}
