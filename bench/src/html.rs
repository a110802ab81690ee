//! Reports as one HTML page that fetches nothing: style, script and pictures are within it, and a content security
//! policy forbids everything else. Follows the reader's light or dark scheme.
//!
//! Reading order: `markup` (text and figures), `axis` and `chart` (pictures), `curve` (what is drawn), then a module for
//! each kind of page.

mod axis;
mod chart;
mod compare;
mod cores;
mod curve;
mod markup;
mod periods;
mod run;
mod setup;
mod sweep;
mod versus;

use crate::report::{Finding, Weight};
use markup::{element, escape, wrap};

/// The whole page around its body, which is HTML.
fn page(title: &str, under: &[String], findings: &[Finding], body: &str) -> String {
    let under: String = under.iter().map(|line| element("p", "sub", line)).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n\
         <header>{}{under}</header>\n{}\n{body}\n\
         <footer>pegasus-bench {}</footer>\n</main>\n<div id=\"tip\"></div>\n<script>{}</script>\n</body>\n</html>\n",
        escape(title),
        include_str!("html/style.css"),
        element("h1", "", title),
        findings_list(findings),
        env!("CARGO_PKG_VERSION"),
        include_str!("html/tip.js"),
    )
}

fn findings_list(findings: &[Finding]) -> String {
    let entry = |finding: &Finding| {
        let (class, word) = match finding.weight {
            Weight::Bad => ("bad", "failed"),
            Weight::Doubt => ("doubt", "note"),
            Weight::Good => ("good", "fine"),
        };
        wrap(
            "li",
            class,
            format!("{}{}", element("b", "", word), escape(&finding.sentence)),
        )
    };
    wrap(
        "ul",
        "findings",
        findings.iter().map(entry).collect::<String>(),
    )
}

#[cfg(test)]
mod tests;
