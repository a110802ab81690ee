//! Balance: what meta moves so that cores, nodes and disks carry the same; and how many replicas a table has.

use super::{Builder, ChangeOutcome};
use crate::client::Client;
use crate::driver::Class;
use crate::error::Result;
use crate::reply::read;
use pegasus_fbs::admin;
use pegasus_fbs::frame::FrameKind;

/// How balancing stands, or what would be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceInfo {
    /// Nothing new is begun.
    pub is_paused: bool,
    /// An operator wants it done now, whatever the level is.
    pub wanted: BalanceScope,
    pub limits: BalanceLimits,
    /// Why nothing more is begun now; empty: it works, or there is nothing to do.
    pub waits_for: String,
    /// The first of them, in the order in which they are begun.
    pub moves: Vec<MoveInfo>,
    pub moves_total: u32,
    /// Of a core, the least and the most.
    pub replicas: (u32, u32),
    pub primaries: (u32, u32),
    /// Of a core, in requests a second (a write counts 3 on the primary, 2 on a secondary): the mean and the most.
    pub load: (u64, u64),
}

/// How much is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalanceScope {
    /// What the level lets happen by itself.
    Nothing,
    /// Primaries, which copies nothing.
    Primaries,
    /// Replicas too.
    Everything,
}

/// How many moves there are at a time; in an order 0 leaves a limit as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalanceLimits {
    pub copies_max: u32,
    pub copies_per_node_max: u32,
    pub hand_overs_max: u32,
}

/// One move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveInfo {
    pub table_id: u32,
    pub table: String,
    pub partition: u32,
    /// A replica moves; otherwise its lead is handed over.
    pub copies: bool,
    /// (node, core).
    pub from: (u32, u32),
    pub to: (u32, u32),
    pub reason: String,
    pub gain: u64,
    /// To be copied.
    pub bytes: u64,
    /// It is under way.
    pub is_running: bool,
}

impl Client {
    /// How balancing stands: what is under way and planned.
    ///
    /// # Errors
    /// No meta answers.
    pub async fn balance_status(&self) -> Result<BalanceInfo> {
        self.show_balance(admin::ShowBalanceArgs::default()).await
    }

    /// What would be moved now; nothing is changed.
    ///
    /// # Errors
    /// No meta answers.
    pub async fn balance_plan(&self, scope: BalanceScope) -> Result<BalanceInfo> {
        self.show_balance(admin::ShowBalanceArgs {
            plan: true,
            primaries_only: scope != BalanceScope::Everything,
        })
        .await
    }

    async fn show_balance(&self, arguments: admin::ShowBalanceArgs) -> Result<BalanceInfo> {
        let body = |builder: &mut Builder| {
            let request = admin::ShowBalance::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ShowBalance, Class::Read, &body)
            .await?;
        Ok(balance_info(&read::<admin::BalanceReply<'_>>(&answer)?))
    }

    /// Moves what should be moved as soon as nothing is missing anywhere, whatever the level is; ends a pause.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] when the answer was lost.
    pub async fn balance_run(&self, scope: BalanceScope) -> Result<ChangeOutcome> {
        self.order_balance(admin::OrderBalanceArgs {
            operation: admin::BalanceOperation::Run,
            primaries_only: scope != BalanceScope::Everything,
            ..Default::default()
        })
        .await
    }

    /// Begins nothing new until it is resumed or run; what is under way goes on.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] when the answer was lost.
    pub async fn balance_pause(&self) -> Result<ChangeOutcome> {
        self.order_balance(admin::OrderBalanceArgs {
            operation: admin::BalanceOperation::Pause,
            ..Default::default()
        })
        .await
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] when the answer was lost.
    pub async fn balance_resume(&self) -> Result<ChangeOutcome> {
        self.order_balance(admin::OrderBalanceArgs {
            operation: admin::BalanceOperation::Resume,
            ..Default::default()
        })
        .await
    }

    /// Sets how many moves there are at a time.
    ///
    /// # Errors
    /// [`crate::Code::InvalidArgument`] out of range; [`crate::Error::Unknown`] when the answer was lost.
    pub async fn balance_limit(&self, limits: BalanceLimits) -> Result<ChangeOutcome> {
        self.order_balance(admin::OrderBalanceArgs {
            operation: admin::BalanceOperation::Limit,
            primaries_only: false,
            copies_max: limits.copies_max,
            copies_per_node_max: limits.copies_per_node_max,
            hand_overs_max: limits.hand_overs_max,
        })
        .await
    }

    async fn order_balance(&self, arguments: admin::OrderBalanceArgs) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let request = admin::OrderBalance::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::OrderBalance, &body).await
    }

    /// Gives each partition of a table so many replicas, 1 to 7: done once all have them.
    ///
    /// # Errors
    /// [`crate::Code::UnknownTable`], [`crate::Code::InvalidArgument`] out of range, [`crate::Code::NotEnoughNodes`];
    /// [`crate::Error::Unknown`] when the answer was lost.
    pub async fn set_replicas(&self, table: &str, replica_count: u32) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let arguments = admin::SetReplicasArgs {
                table_name: Some(builder.create_string(table)),
                replica_count,
            };
            let request = admin::SetReplicas::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::SetReplicas, &body).await
    }
}

fn balance_info(reply: &admin::BalanceReply<'_>) -> BalanceInfo {
    BalanceInfo {
        is_paused: reply.paused(),
        wanted: match reply.wanted() {
            0 => BalanceScope::Nothing,
            1 => BalanceScope::Primaries,
            _ => BalanceScope::Everything,
        },
        limits: BalanceLimits {
            copies_max: reply.copies_max(),
            copies_per_node_max: reply.copies_per_node_max(),
            hand_overs_max: reply.hand_overs_max(),
        },
        waits_for: text(reply.waits_for()),
        moves: reply.moves().iter().flatten().map(move_info).collect(),
        moves_total: reply.moves_total(),
        replicas: (reply.replicas_min(), reply.replicas_max()),
        primaries: (reply.primaries_min(), reply.primaries_max()),
        load: (reply.load_mean(), reply.load_max()),
    }
}

fn move_info(it: admin::MoveDetail<'_>) -> MoveInfo {
    MoveInfo {
        table_id: it.table_id(),
        table: text(it.table_name()),
        partition: it.partition(),
        copies: it.copies(),
        from: (it.from_node(), it.from_core()),
        to: (it.to_node(), it.to_core()),
        reason: text(it.reason()),
        gain: it.gain(),
        bytes: it.bytes(),
        is_running: it.running(),
    }
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}
