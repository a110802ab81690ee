//! The page of servers side by side.

use super::markup::{rate, section, table, time, wrap};
use super::page;
use crate::versus::{Row, VersusReport};

impl VersusReport {
    /// The whole page.
    pub(crate) fn html(&self) -> String {
        let names: Vec<&str> = self.servers.iter().map(|it| it.name.as_str()).collect();
        let mut under: Vec<String> = self
            .servers
            .iter()
            .map(|it| {
                format!(
                    "{}: {} {}",
                    it.name, it.description.url, it.description.server
                )
            })
            .collect();
        under.push(self.machine.sentence());
        let heading = [
            "workload",
            "shape",
            "server",
            "op/s",
            "p50",
            "p99",
            "p99.9",
            "failed",
            "rate ratio",
            "lowest",
            "highest",
            "p50 ratio",
            "p99",
            "p99.9",
        ];
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        let body = section(
            "Figures",
            &self.sentence(),
            wrap("div", "card", table(3, &heading, &rows)),
        );
        page(&names.join(" | "), &under, &self.findings(), &body)
    }
}

fn row(row: &Row) -> Vec<String> {
    let it = &row.median;
    let mut cells = vec![
        row.workload.name().to_owned(),
        row.shape.clone(),
        row.server.clone(),
        rate(it.operations_per_second),
        time(it.p50_us),
        time(it.p99_us),
        time(it.p999_us),
        format!("{:.0}", it.failed),
    ];
    let ratios = row.first_to_this.zip(row.rate_ratios);
    cells.extend(ratios.map_or_else(
        || ["-"; 6].map(str::to_owned),
        |(it, (low, high))| {
            [
                it.operations_per_second,
                low,
                high,
                it.p50_us,
                it.p99_us,
                it.p999_us,
            ]
            .map(|ratio| format!("{ratio:.2}"))
        },
    ));
    cells
}
