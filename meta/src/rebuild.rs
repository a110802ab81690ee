//! `pegasus-meta recover`: listen to the nodes, decide, say what cannot be decided, write only if everything is.

use crate::options::RecoverArguments;
use anyhow::{Context as _, bail};
use pegasus_meta::recover::{Case, Plan, Undecided, plan};
use pegasus_meta::server::{ServerOptions, collect};
use pegasus_meta::state::{Cluster, State, may_name};
use pegasus_meta::store::{FileStore, StoreError};
use pegasus_replication::ids::{NodeId, TableId};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn recover(arguments: &RecoverArguments) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    if !FileStore::is_absent(dir)? {
        return Err(StoreError::Exists { dir: dir.clone() })
            .context("recover writes into an empty directory only");
    }
    let name = &arguments.cluster_name;
    if !may_name(name) {
        bail!("cluster name {name:?} is not 1 to 128 of [a-zA-Z0-9_.:-]");
    }
    // Read first, so that nobody waits for nodes in vain.
    let base = arguments.base.as_deref().map(crate::exchange::read);
    let base = base.transpose()?;
    let case = Case {
        base,
        ..gather(arguments)?
    };
    let named = case.base.as_ref().map(|base| &base.cluster().name);
    let cluster = Cluster {
        id: arguments.cluster_id,
        name: named.unwrap_or(name).clone(),
        epoch: 0,
    };
    let plan = plan(cluster, &case).context("nothing can be rebuilt")?;
    report(&plan);
    refuse_undecided(&plan)?;
    State::from_durable(plan.durable.clone()).check();
    drop(FileStore::create_with(dir, &plan.durable)?);
    let run = format!("pegasus-meta run --dir {}", dir.display());
    println!("written; start it: {run}");
    Ok(())
}

fn gather(arguments: &RecoverArguments) -> anyhow::Result<Case> {
    let nodes: BTreeSet<NodeId> = arguments.nodes.iter().copied().map(NodeId).collect();
    let options = ServerOptions {
        token: arguments.token()?,
        ..ServerOptions::at(arguments.listen)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let wait = Duration::from_secs(arguments.wait);
    let say = |address| println!("listening on {address}");
    let collected = runtime.block_on(collect(options, arguments.cluster_id, &nodes, wait, say));
    let witnesses = collected.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Case {
        witnesses,
        nodes,
        tables: arguments.tables.clone(),
        leave: arguments.leave.iter().copied().map(TableId).collect(),
        accept_loss: arguments.accept_loss.iter().copied().collect(),
        now_ms: u64::try_from(now.as_millis()).unwrap_or(0),
        base: None,
    })
}

fn report(plan: &Plan) {
    for warning in &plan.warnings {
        println!("warning: {warning}");
    }
    let tables = plan.durable.tables();
    for table in tables.values() {
        println!(
            "table {} {}: {} partitions",
            table.id, table.name, table.partition_count
        );
    }
    println!(
        "{} nodes, {} partitions, epoch {}",
        plan.durable.nodes().len(),
        plan.partitions,
        plan.durable.cluster().epoch
    );
}

/// Lists what is not decided, with the words that would accept it, and fails.
fn refuse_undecided(plan: &Plan) -> anyhow::Result<()> {
    if plan.undecided.is_empty() {
        return Ok(());
    }
    for undecided in &plan.undecided {
        println!("undecided: {undecided}");
    }
    let partitions: Vec<String> = plan
        .undecided
        .iter()
        .filter_map(|it| match it {
            Undecided::Partition { partition, .. } => Some(partition.to_string()),
            Undecided::Node { .. } | Undecided::Table { .. } => None,
        })
        .collect();
    if !partitions.is_empty() {
        println!(
            "bring the missing nodes back and try again; or lose what they alone have: --accept-loss {}",
            partitions.join(",")
        );
    }
    bail!(
        "{} cannot be decided; nothing was written",
        plan.undecided.len()
    )
}
