//! Copies of this core's replicas for backups, and replicas made from backups.

use super::ShardLoop;
use crate::background::backup::LayOutRequest;
use crate::engine_pool::PoolDone;
use pegasus_engine::Engine;
use pegasus_replication::replica::RoleName;

impl ShardLoop {
    /// Lays a replica out as a directory for others to read.
    pub(super) fn lay_out(&mut self, request: LayOutRequest) {
        let LayOutRequest {
            partition,
            incarnation,
            directory,
            answer,
        } = request;
        let replica = self.shard.replica(partition);
        // A learner holds a part, or nothing yet.
        let may_lay_out = replica.is_some_and(|replica| {
            replica.incarnation() == incarnation
                && matches!(replica.role(), RoleName::Primary(_) | RoleName::Secondary)
        });
        if !may_lay_out {
            let _ = answer.send(Err(format!(
                "replica {partition} of incarnation {incarnation} is not here, or no member"
            )));
            return;
        }
        if let Err(error) = self.engine.begin_flush(partition) {
            let _ = answer.send(Err(error.to_string()));
            return;
        }
        let store = self.store.clone();
        self.outbox.upkeep(Box::new(move |done| {
            let laid_out = store
                .lay_out(partition, &directory, 0)
                .map_err(|error| error.to_string());
            done(PoolDone::Flushed {
                partition,
                incarnation,
                result: laid_out.clone(),
            });
            if answer.send(laid_out).is_err()
                && let Err(error) = std::fs::remove_dir_all(&directory)
            {
                // Nobody waits for it any more; the next start removes it.
                tracing::debug!(directory = %directory.display(), %error, "left behind");
            }
        }));
    }
}
