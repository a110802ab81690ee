//! What a measurement says: as JSON for machines, as text and as one HTML page (`html`) for people. A report holds what
//! was measured and the setup it was measured with; everything else is computed when it is shown.

mod compared;
mod cores;
#[cfg(test)]
pub(crate) mod examples;
mod file;
mod finding;
mod machine;
mod periods;
mod run;
mod text;

pub(crate) use compared::{Compared, Multiples};
pub(crate) use cores::{CoreTiming, CoreUse, Cores, Watch};
pub(crate) use file::{publish, read_json, write_html};
pub(crate) use finding::{Finding, Weight};
pub(crate) use machine::Machine;
pub(crate) use run::Report;
pub(crate) use text::{floor_text, list};
