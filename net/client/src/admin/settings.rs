//! Settings of tables and of the cluster; dropped tables come back, tables get other names.

use super::{Builder, CreatedTable};
use crate::client::Client;
use crate::driver::Class;
use crate::error::Result;
use crate::reply::read;
use pegasus_fbs::flatbuffers::WIPOffset;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::{admin, meta};

/// A setting of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvInfo {
    pub key: String,
    pub value: String,
    /// It has an effect; otherwise it is only kept.
    pub acts: bool,
}

/// The cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSummary {
    pub cluster_id: u128,
    pub name: String,
    /// How much meta does by itself: 100 stopped, 200 blind, 300 freezed, 400 steady, 500 lively.
    pub level: u16,
    /// Of meta's program; empty if it does not say.
    pub version: String,
    /// After which a lost member is replaced, in milliseconds.
    pub heal_delay_ms: u64,
    /// What meta's clock shows; 0 if it does not say.
    pub now_unix_ms: u64,
    /// What Apache Pegasus' tools are told, with the keys they know.
    pub details: Vec<(String, String)>,
    /// All metas of the cluster; empty if there is only one for good.
    pub metas: Vec<MetaInfo>,
    /// Grows with every leader of a group of metas; 0 if there is none.
    pub term: u64,
}

/// One meta of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaInfo {
    /// Its number in the group; 0 if it has none.
    pub member: u64,
    /// `ip:port` of its clients.
    pub address: String,
    /// `ip:port` of its peers; empty if they do not talk to each other.
    pub peer_address: String,
    pub leads: bool,
    /// Whether it answers, as far as the leader knows.
    pub is_up: Option<bool>,
    /// It is being brought up to date and does not vote yet.
    pub is_learner: bool,
}

/// What is to become of the members of a group of metas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaChange {
    /// The member that listens to its peers there joins, under this number.
    Add { member: u64, peer_address: String },
    /// The member leaves, alive or not.
    Remove { member: u64 },
}

impl Client {
    /// Makes a dropped table be there again, under `name` or its old name, and waits until all its partitions serve.
    ///
    /// # Errors
    /// [`crate::Code::UnknownTable`] if it is not dropped or was deleted already, [`crate::Code::AlreadyExists`] if there is a
    /// table of that name; [`crate::Code::Creating`] and [`crate::Error::Unknown`] as with [`Client::create_table`].
    pub async fn recall_table(&self, table_id: u32, name: Option<&str>) -> Result<CreatedTable> {
        let body = |builder: &mut Builder| {
            let name = name.map(|name| builder.create_string(name));
            let arguments = admin::RecallTableArgs { table_id, name };
            let request = admin::RecallTable::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::RecallTable, Class::Write, &body)
            .await?;
        let reply = read::<admin::CreateTableReply<'_>>(&answer)?;
        name.iter().for_each(|name| self.forget(name));
        Ok(CreatedTable {
            table_id: reply.table_id(),
            degraded: reply.degraded(),
        })
    }

    /// Gives a table another name; its rows and its number stay.
    ///
    /// # Errors
    /// [`crate::Code::UnknownTable`], [`crate::Code::AlreadyExists`], [`crate::Code::InvalidArgument`];
    /// [`crate::Error::Unknown`] when the answer was lost.
    pub async fn rename_table(&self, from: &str, to: &str) -> Result<()> {
        let body = |builder: &mut Builder| {
            let arguments = admin::RenameTableArgs {
                from: Some(builder.create_string(from)),
                to: Some(builder.create_string(to)),
            };
            let request = admin::RenameTable::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::RenameTable, &body).await?;
        self.forget(from);
        self.forget(to);
        Ok(())
    }

    /// The settings of a table, by key.
    ///
    /// # Errors
    /// [`crate::Code::UnknownTable`].
    pub async fn table_envs(&self, name: &str) -> Result<Vec<EnvInfo>> {
        let body = |builder: &mut Builder| {
            let table_name = Some(builder.create_string(name));
            let request = admin::ShowEnvs::create(builder, &admin::ShowEnvsArgs { table_name });
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ShowEnvs, Class::Read, &body)
            .await?;
        let reply = read::<admin::ShowEnvsReply<'_>>(&answer)?;
        let envs = reply.envs().into_iter().flatten();
        Ok(envs
            .map(|it| EnvInfo {
                key: it.key().unwrap_or_default().to_owned(),
                value: it.value().unwrap_or_default().to_owned(),
                acts: it.acts(),
            })
            .collect())
    }

    /// Sets these, all or none.
    ///
    /// # Errors
    /// [`crate::Code::UnknownTable`], [`crate::Code::InvalidArgument`] with the key and what its value should be;
    /// [`crate::Error::Unknown`] when the answer was lost.
    pub async fn set_table_envs(&self, name: &str, envs: &[(String, String)]) -> Result<()> {
        let set = admin::EnvOperation::Set;
        self.change_envs(name, set, envs, "").await
    }

    /// Takes these away; those that are not set do no harm.
    ///
    /// # Errors
    /// [`crate::Code::UnknownTable`]; [`crate::Error::Unknown`] when the answer was lost.
    pub async fn delete_table_envs(&self, name: &str, keys: &[String]) -> Result<()> {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| (key.clone(), String::new()))
            .collect();
        let delete = admin::EnvOperation::Delete;
        self.change_envs(name, delete, &keys, "").await
    }

    /// Takes away all whose keys begin with `prefix` and a dot, or all if it is empty.
    ///
    /// # Errors
    /// As [`Client::delete_table_envs`].
    pub async fn clear_table_envs(&self, name: &str, prefix: &str) -> Result<()> {
        let clear = admin::EnvOperation::Clear;
        self.change_envs(name, clear, &[], prefix).await
    }

    async fn change_envs(
        &self,
        name: &str,
        operation: admin::EnvOperation,
        envs: &[(String, String)],
        prefix: &str,
    ) -> Result<()> {
        let body = |builder: &mut Builder| {
            let envs: Vec<_> = envs.iter().map(|env| write_env(builder, env)).collect();
            let arguments = admin::ChangeEnvsArgs {
                table_name: Some(builder.create_string(name)),
                operation,
                envs: Some(builder.create_vector(&envs)),
                prefix: Some(builder.create_string(prefix)),
            };
            let request = admin::ChangeEnvs::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::ChangeEnvs, &body).await.map(|_| ())
    }

    /// The cluster as a whole.
    ///
    /// # Errors
    /// No meta answers.
    pub async fn cluster(&self) -> Result<ClusterSummary> {
        let body = |builder: &mut Builder| {
            let request = admin::ShowCluster::create(builder, &admin::ShowClusterArgs {});
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ShowCluster, Class::Read, &body)
            .await?;
        let reply = read::<admin::ClusterReply<'_>>(&answer)?;
        let keys = reply.keys().into_iter().flatten();
        let values = reply.values().into_iter().flatten();
        let details = keys.zip(values);
        Ok(ClusterSummary {
            cluster_id: (u128::from(reply.cluster_high()) << 64) | u128::from(reply.cluster_low()),
            name: reply.name().unwrap_or_default().to_owned(),
            level: reply.level(),
            version: reply.version().unwrap_or_default().to_owned(),
            heal_delay_ms: reply.heal_delay_ms(),
            now_unix_ms: reply.now_unix_ms(),
            details: details
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            metas: reply.metas().into_iter().flatten().map(meta_info).collect(),
            term: reply.term(),
        })
    }

    /// Changes the members of the group of metas; returns once that is so.
    ///
    /// # Errors
    /// [`crate::Code::InvalidArgument`] with what stands in the way; [`crate::Error::Unknown`] when the answer was lost.
    pub async fn change_metas(&self, change: &MetaChange) -> Result<()> {
        let body = |builder: &mut Builder| {
            let (operation, member, address) = match change {
                MetaChange::Add {
                    member,
                    peer_address,
                } => (admin::MetaOperation::Add, *member, Some(peer_address)),
                MetaChange::Remove { member } => (admin::MetaOperation::Remove, *member, None),
            };
            let arguments = admin::ChangeMetasArgs {
                operation,
                member,
                peer_address: address.map(|address| builder.create_string(address)),
            };
            let request = admin::ChangeMetas::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.ask_meta(FrameKind::ChangeMetas, Class::Write, &body)
            .await?;
        Ok(())
    }

    /// Sets how much meta does by itself (numbers as in [`ClusterSummary::level`]); returns the level of before.
    ///
    /// # Errors
    /// [`crate::Code::InvalidArgument`] for another number; [`crate::Error::Unknown`] when the answer was lost.
    pub async fn set_level(&self, level: u16) -> Result<u16> {
        let body = |builder: &mut Builder| {
            let request = admin::SetLevel::create(builder, &admin::SetLevelArgs { level });
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::SetLevel, Class::Write, &body)
            .await?;
        Ok(read::<admin::SetLevelReply<'_>>(&answer)?.before())
    }
}

fn meta_info(it: admin::MetaDetail<'_>) -> MetaInfo {
    MetaInfo {
        member: it.member(),
        address: it.address().unwrap_or_default().to_owned(),
        peer_address: it.peer_address().unwrap_or_default().to_owned(),
        leads: it.leads(),
        is_up: match it.up() {
            admin::MetaUp::Up => Some(true),
            admin::MetaUp::Down => Some(false),
            _ => None,
        },
        is_learner: it.learner(),
    }
}

fn write_env(
    builder: &mut Builder,
    (key, value): &(String, String),
) -> WIPOffset<meta::Env<'static>> {
    let arguments = meta::EnvArgs {
        key: Some(builder.create_string(key)),
        value: Some(builder.create_string(value)),
    };
    meta::Env::create(builder, &arguments)
}
