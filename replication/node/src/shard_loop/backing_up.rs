//! Copies of this core's replicas for backups, and replicas made from backups.

use super::ShardLoop;
use crate::background::backup::LayOutRequest;
use crate::engine_pool::PoolDone;
use pegasus_engine::Engine;

impl ShardLoop {
    /// Lays a replica out as a directory for others to read.
    pub(super) fn lay_out(&mut self, request: LayOutRequest) {
        let LayOutRequest {
            partition,
            directory,
            answer,
        } = request;
        let replica = self.shard.replica(partition);
        if replica.is_none_or(|replica| replica.reason().is_some()) {
            let _ = answer.send(Err(format!(
                "replica {partition} is not here, or out of service"
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
