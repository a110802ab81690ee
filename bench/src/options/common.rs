//! What `load` and `run` have in common.

use crate::affinity;
use crate::layout::{FIELDS_MAX, Layout};
use crate::plan::{Plan, Shape, Verification, Work};
use crate::report::{Report, publish, write_html};
use crate::target::apache::Form;
use crate::target::{Target, address};
use crate::worker::Task;
use crate::workload::Mix;
use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    /// What to measure: `native://META[,META]/TABLE` (likewise `thft`, `thft-v1`, `rdsn`, `resp`), `redis://HOST:PORT[/DATABASE]`,
    /// `etcd://HOST:PORT`, or `null://` (a server in this process that has nothing to do: measures the bench itself)
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "table",
        required_unless_present = "table"
    )]
    pub(crate) target: Option<String>,
    /// Addresses of meta servers: with --table the short form of --target PROTOCOL://META/TABLE
    #[arg(
        long,
        env = "PEGASUS_META",
        value_name = "ADDR[,ADDR]",
        value_delimiter = ',',
        default_value = "127.0.0.1:34601"
    )]
    pub(crate) meta: Vec<String>,
    /// The table; it must exist
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// Which of the protocols that every client port speaks, with --table
    #[arg(long, value_enum, default_value_t = Protocol::Native, conflicts_with = "target")]
    pub(crate) protocol: Protocol,
    /// Number of records
    #[arg(long, default_value_t = 100_000)]
    pub(crate) records: u64,
    /// Fields of a record: each is a row under the record's hash key, a read asks for all of them, an update writes one; load and
    /// run must agree on this and the next three
    #[arg(long, default_value_t = 10, conflicts_with = "value_size")]
    pub(crate) fields: usize,
    /// Bytes of each field; at least 24 to verify it
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 100,
        conflicts_with = "value_size"
    )]
    pub(crate) field_size: usize,
    /// A record is one value of so many bytes instead; at least 24 to verify it
    #[arg(long, value_name = "BYTES")]
    pub(crate) value_size: Option<usize>,
    /// Records that share a hash key. Scans (workload e) go from a record to the end of its hash key at most, because
    /// data is spread over partitions by hash key; they need more than 1
    #[arg(
        long,
        value_name = "RECORDS",
        default_value_t = 1,
        alias = "rows-per-hash-key"
    )]
    pub(crate) records_per_hash_key: u64,
    /// Threads of this program
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Connections; for a cluster: clients with a connection to every core each
    #[arg(long, default_value_t = 8)]
    pub(crate) connections: usize,
    /// Operations under way on each connection, at most
    #[arg(long, default_value_t = 4)]
    pub(crate) inflight: usize,
    /// CPUs to pin the threads of this program to, in turn; best those that no server uses [default: the scheduler chooses]
    #[arg(long, value_name = "CPU[,CPU]", value_delimiter = ',')]
    pub(crate) cpus: Vec<usize>,
    /// Deadline of an operation in milliseconds, from the moment it was meant to start
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub(crate) timeout: u64,
    /// Keep here what the records hold, so that a later run with --verify finds values that were lost meanwhile: load writes
    /// it, run --verify reads and writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) verify_state: Option<PathBuf>,
    /// Write the report to this file, as JSON (- for standard output, instead of the text)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report to this file, as one page with pictures that can be opened anywhere
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// What a client of a cluster speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Native,
    /// That of Apache Pegasus' Go, Python and Node clients
    Thft,
    /// That of its Java client
    ThftV1,
    /// That of its C++ client
    Rdsn,
    /// That of Redis
    Resp,
}

impl Protocol {
    fn target(self, meta: Vec<String>, table: String) -> Target {
        let apache = |form, meta, table| Target::Apache { form, meta, table };
        match self {
            Self::Native => Target::Native { meta, table },
            Self::Thft => apache(Form::ThftV0, meta, table),
            Self::ThftV1 => apache(Form::ThftV1, meta, table),
            Self::Rdsn => apache(Form::Rdsn, meta, table),
            Self::Resp => Target::Resp { meta, table },
        }
    }
}

impl CommonOptions {
    /// Writes the report wherever it is wanted.
    pub(crate) fn publish(&self, report: &Report) -> anyhow::Result<()> {
        if let Some(path) = &self.html {
            write_html(path, &report.html())?;
        }
        publish(self.json.as_deref(), report, || report.text())
    }

    /// # Errors
    /// Names the option that is wrong, or what the target is not.
    pub(crate) fn plan(&self, work: Work, mix: Mix) -> anyhow::Result<Plan> {
        let shape = self.shape()?;
        let layout = self.layout()?;
        ensure!(
            (1..=10_000_000_000).contains(&self.records),
            "--records {}: 1 to 10000000000 are allowed",
            self.records
        );
        ensure!(
            (1..=600_000).contains(&self.timeout),
            "--timeout {}: 1 to 600000 ms are allowed",
            self.timeout
        );
        let target = self.target()?;
        let description = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("runtime")?
            .block_on(target.describe())?;
        Ok(Plan {
            target,
            description,
            shape,
            cpus: self.cpus.clone(),
            work,
            rate: None,
            knee: None,
            task: Task {
                mix,
                layout,
                records: self.records,
                seed: 1,
                timeout: Duration::from_millis(self.timeout),
                version_base: 0,
                workers: shape.workers() as u64,
            },
            workload: None,
            distribution: mix.distribution,
            verification: Verification {
                verify: false,
                state: self.verify_state.clone(),
            },
            trace: None,
        })
    }

    pub(crate) fn layout(&self) -> anyhow::Result<Layout> {
        const RECORD_BYTES_MAX: usize = 1 << 20;
        let layout = match self.value_size {
            Some(value_bytes) => Layout {
                records_per_hash_key: self.records_per_hash_key,
                fields: 0,
                value_bytes,
            },
            None => Layout {
                records_per_hash_key: self.records_per_hash_key,
                fields: self.fields,
                value_bytes: self.field_size,
            },
        };
        ensure!(
            self.value_size.is_some() || (1..=FIELDS_MAX).contains(&self.fields),
            "--fields {}: 1 to {FIELDS_MAX} are allowed; --value-size makes records of one value",
            self.fields
        );
        ensure!(
            layout.cells().saturating_mul(layout.value_bytes) <= RECORD_BYTES_MAX,
            "a record of {} x {} bytes: at most {RECORD_BYTES_MAX} are allowed",
            layout.cells(),
            layout.value_bytes
        );
        ensure!(
            (1..=100_000_000).contains(&self.records_per_hash_key),
            "--records-per-hash-key {}: 1 to 100000000 are allowed",
            self.records_per_hash_key
        );
        Ok(layout)
    }

    fn shape(&self) -> anyhow::Result<Shape> {
        let shape = Shape {
            threads: self.threads,
            connections: self.connections,
            inflight: self.inflight,
        };
        shape.check()?;
        let allowed = affinity::allowed()?;
        for cpu in &self.cpus {
            ensure!(
                allowed.contains(cpu),
                "--cpus: CPU {cpu} is not one that this program may use ({allowed:?})"
            );
        }
        Ok(shape)
    }

    fn target(&self) -> anyhow::Result<Target> {
        if let Some(url) = &self.target {
            return Target::from_str(url);
        }
        let table = self
            .table
            .clone()
            .context("--table or --target is needed")?;
        ensure!(!table.is_empty(), "--table: the name is empty");
        let meta = self.meta.iter().map(|text| address(text));
        let meta = meta
            .collect::<anyhow::Result<_>>()
            .context("--meta (or PEGASUS_META)")?;
        Ok(self.protocol.target(meta, table))
    }
}
