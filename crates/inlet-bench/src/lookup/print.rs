//! The table of lookups.

use super::{Report, Row};
use crate::stats::median;
use crate::{Result, table};

pub(super) fn print(report: &Report) -> Result<()> {
    let row = |row: &Row| {
        let mut cells = vec![row.name.clone()];
        let Row { hot, cold, alone, all_cold, .. } = row;
        cells.extend([format!("{:.1}", hot.lpm), format!("{:.1}", hot.inlet)]);
        cells.extend([hot.ratio, hot.search_ratio].map(|ratio| format!("{ratio:.3}")));
        for cost in [cold, alone, all_cold] {
            cells.extend([spread(cost.lpm, cost.lpm_spread), spread(cost.inlet, cost.inlet_spread)]);
            cells.extend([ratio(cost.ratio), cost.samples.to_string()]);
        }
        cells.extend([row.program.verified_instructions.to_string(), row.program.jit_bytes.to_string()]);
        cells.extend([row.image_bytes, row.trie_bytes].map(|it| format!("{:.1}", it as f64 / row.rules as f64)));
        cells.push(format!("{:.1}", row.commit_ms));
        cells.push(format!("{:.0}/{:.0}", row.assigned[0] * 100.0, row.assigned[1] * 100.0));
        cells
    };
    let head = [
        "rules",
        "lpm hot",
        "inlet hot",
        "ratio",
        "search only",
        "lpm cold",
        "inlet cold",
        "ratio",
        "n",
        "lpm alone",
        "inlet alone",
        "ratio",
        "n",
        "lpm all cold",
        "inlet all cold",
        "ratio",
        "n",
        "verified",
        "jit B",
        "B/rule",
        "lpm B/r",
        "commit ms",
        "% chosen",
    ];
    let middle = |cost: fn(&Row) -> f64| median(report.rows.iter().map(cost));
    let title = format!(
        "Lookup: ns above an empty program (hot {:.1}, cold {:.0}, alone {:.0}); to give to a socket takes (hot {:.1}, cold \
         {:.0}, alone {:.0});
{} hot keys, {} cold keys after {} MB were walked in {:.0} ms, up to {} keys alone, with a walk before each; n: samples of each \
         program, in brackets their middle half",
        middle(|row| row.hot.floor),
        middle(|row| row.cold.floor),
        middle(|row| row.alone.floor),
        middle(|row| row.hot.give),
        middle(|row| row.cold.give),
        middle(|row| row.alone.give),
        report.hot_keys,
        report.cold_keys,
        report.displaced_mb,
        report.displacement_ms,
        report.alone_keys,
    );
    table::print(&title, &head, &report.rows.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}

/// A median, and where the middle half of the samples lies.
fn spread(median: f64, [low, high]: [f64; 2]) -> String {
    match median.is_nan() {
        true => "-".to_owned(),
        false => format!("{median:.0} ({low:.0}..{high:.0})"),
    }
}

fn ratio(ratio: f64) -> String {
    if ratio.is_nan() { "-".to_owned() } else { format!("{ratio:.3}") }
}
