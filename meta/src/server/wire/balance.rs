//! Orders and answers about balance and replica counts.

use super::Builder;
use super::replies::finished;
use crate::server::letter::{Failed, Query};
use crate::state::{BalanceOrder, BalanceView, Command, PlannedMove, State, Wanted};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::WIPOffset;
use pegasus_fbs::{admin, body};

pub(in crate::server) fn query(bytes: &[u8]) -> Result<Query, Failed> {
    let it = body::read::<admin::ShowBalance<'_>>(bytes)?;
    let wanted = it.plan().then(|| wanted(it.primaries_only()));
    Ok(Query::ShowBalance { plan: wanted })
}

const fn wanted(primaries_only: bool) -> Wanted {
    if primaries_only {
        Wanted::Primaries
    } else {
        Wanted::Everything
    }
}

pub(in crate::server) fn order(bytes: &[u8], now_ms: u64) -> Result<Command, Failed> {
    let it = body::read::<admin::OrderBalance<'_>>(bytes)?;
    let order = match it.operation() {
        admin::BalanceOperation::Run => BalanceOrder::Run(wanted(it.primaries_only())),
        admin::BalanceOperation::Pause => BalanceOrder::Pause,
        admin::BalanceOperation::Resume => BalanceOrder::Resume,
        admin::BalanceOperation::Limit => BalanceOrder::Limit {
            copies_max: bounded(it.copies_max()),
            copies_per_node_max: bounded(it.copies_per_node_max()),
            hand_overs_max: bounded(it.hand_overs_max()),
        },
        other => {
            let message = format!("operation {} on balance is not known", other.0);
            return Err(Failed::new(Code::InvalidArgument, message));
        }
    };
    Ok(Command::Balance { order, now_ms })
}

/// What is too much is refused as such.
fn bounded(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

pub(in crate::server) fn set_replicas(bytes: &[u8], now_ms: u64) -> Result<Command, Failed> {
    let it = body::read::<admin::SetReplicas<'_>>(bytes)?;
    Ok(Command::SetReplicas {
        table: it.table_name().unwrap_or_default().to_owned(),
        replica_count: u8::try_from(it.replica_count()).unwrap_or(u8::MAX),
        now_ms,
    })
}

/// How balancing stands, or a plan made now.
pub(in crate::server) fn reply(state: &State, view: &BalanceView) -> Vec<u8> {
    let mut builder = Builder::new();
    let moves: Vec<_> = view
        .moves
        .iter()
        .map(|it| write_move(&mut builder, state, it))
        .collect();
    let (settings, evenness) = (&view.settings, &view.evenness);
    let arguments = admin::BalanceReplyArgs {
        paused: settings.is_paused,
        wanted: match settings.wanted {
            Wanted::Nothing => 0,
            Wanted::Primaries => 1,
            Wanted::Everything => 2,
        },
        copies_max: settings.limits.copies_max.into(),
        copies_per_node_max: settings.limits.copies_per_node_max.into(),
        hand_overs_max: settings.limits.hand_overs_max.into(),
        waits_for: view
            .waits_for
            .as_deref()
            .map(|it| builder.create_string(it)),
        moves: Some(builder.create_vector(&moves)),
        moves_total: u32::try_from(view.total).unwrap_or(u32::MAX),
        replicas_min: evenness.replicas_min,
        replicas_max: evenness.replicas_max,
        primaries_min: evenness.primaries_min,
        primaries_max: evenness.primaries_max,
        load_mean: whole(evenness.load_mean),
        load_max: evenness.load_max,
    };
    let root = admin::BalanceReply::create(&mut builder, &arguments);
    finished(builder, root)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of positive numbers below 2^53"
)]
fn whole(mean: f64) -> u64 {
    mean.round() as u64
}

fn write_move<'b>(
    b: &mut Builder<'b>,
    state: &State,
    it: &PlannedMove,
) -> WIPOffset<admin::MoveDetail<'b>> {
    let planned = &it.planned;
    let table = state.durable().tables().get(&planned.partition.table);
    let name = table.map_or("", |table| table.name.as_str());
    let arguments = admin::MoveDetailArgs {
        table_id: planned.partition.table.0,
        table_name: Some(b.create_shared_string(name)),
        partition: planned.partition.index,
        copies: planned.kind == crate::place::balance::Kind::Replica,
        from_node: planned.from.node.0,
        from_core: planned.from.core.0.into(),
        to_node: planned.to.node.0,
        to_core: planned.to.core.0.into(),
        reason: Some(b.create_shared_string(planned.reason.words())),
        gain: planned.gain,
        bytes: planned.bytes,
        running: it.is_running,
    };
    admin::MoveDetail::create(b, &arguments)
}
