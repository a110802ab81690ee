//! One question where a table is: asked of meta and, when it does not answer at once, of others beside it.

use super::routes::Heard;
use crate::driver::{Answer, Driver, Problem, exchange};
use crate::endpoint::{Endpoint, Endpoints};
use crate::error::{Cause, Error, Result};
use crate::pipeline::Request;
use futures::stream::{FuturesUnordered, StreamExt};
use pegasus_fbs::body;
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{FrameKind, Header};
use pegasus_fbs::kv;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long all addresses together may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);
/// An address that has not answered for so long is not waited for any more: the next one is asked as well.
const NEXT_AFTER: Duration = Duration::from_millis(50);
/// Leaders that others have named, in one fetch.
const NAMED_MAX: usize = 4;
const PARTITION_COUNT_MAX: u32 = 65_536;
const SECONDARIES_MAX: usize = 8;

/// Why one address gave no routes.
enum Refusal {
    /// The others may.
    NoAnswer(Cause),
    /// This meta does not lead, but that one does.
    Elsewhere(Cause, Arc<Endpoint>),
    UnknownTable,
}

/// Asks `addresses` one after the other, without waiting long for any of them; the first answer counts.
///
/// # Errors
/// [`Code::UnknownTable`], or nobody answered within a second.
pub(super) async fn fetch(
    driver: &Driver,
    name: &str,
    addresses: Vec<Arc<Endpoint>>,
) -> Result<Heard> {
    let end = Instant::now() + FETCH_TIMEOUT;
    let mut cause = Cause::local("no address of the cluster is configured");
    let mut named: Vec<Arc<Endpoint>> = Vec::new();
    let mut addresses = addresses.into_iter();
    let mut asking = FuturesUnordered::new();
    let mut next_at = Instant::now();
    loop {
        if (asking.is_empty() || Instant::now() >= next_at)
            && let Some(address) = addresses.next()
        {
            asking.push(ask(driver, name, address));
            next_at = Instant::now() + NEXT_AFTER;
        }
        tokio::select! {
            biased;
            answer = asking.next() => match answer {
                Some(Ok(heard)) => return Ok(heard),
                Some(Err(Refusal::UnknownTable)) => {
                    return Err(Error::failed(Code::UnknownTable, format!("{name:?}")));
                }
                Some(Err(Refusal::NoAnswer(reason))) => cause = reason,
                Some(Err(Refusal::Elsewhere(reason, leader))) => {
                    cause = reason;
                    if !named.iter().any(|it| Arc::ptr_eq(it, &leader)) && named.len() < NAMED_MAX {
                        named.push(Arc::clone(&leader));
                        asking.push(ask(driver, name, leader));
                    }
                }
                None => return Err(Error::NotExecuted(cause)),
            },
            () = sleep_until(next_at), if addresses.len() > 0 => {}
            () = sleep_until(end) => {
                let silence = Cause::local(format!("nobody gave routes of {name:?} within a second"));
                return Err(Error::NotExecuted(silence));
            }
        }
    }
}

async fn ask(
    driver: &Driver,
    name: &str,
    endpoint: Arc<Endpoint>,
) -> std::result::Result<Heard, Refusal> {
    let write = |builder: &mut FlatBufferBuilder<'static>| {
        let table_name = Some(builder.create_string(name));
        let request = kv::RouteRequest::create(builder, &kv::RouteRequestArgs { table_name });
        builder.finish(request, None);
    };
    let header = Header::request(FrameKind::Route, 0).with_timeout_ms(1_000);
    let no_answer = |reason: String| Refusal::NoAnswer(Cause::local(reason));
    match exchange(&endpoint, Request::unbounded(header, Some(&write)), || ()).await {
        Ok(Answer::Body(body)) => {
            let heard = read_routes(&body, driver.endpoints())
                .map_err(|reason| no_answer(format!("{}: {reason}", endpoint.address())))?;
            driver.prefer_seed(&endpoint);
            Ok(heard)
        }
        Ok(Answer::NotFound) => Err(Refusal::UnknownTable),
        Err(Problem::Refused(failure)) if failure.code == Code::UnknownTable => {
            Err(Refusal::UnknownTable)
        }
        Err(Problem::Refused(failure))
            if failure.code == Code::NotPrimary && !failure.primary.is_empty() =>
        {
            let leader = driver.endpoints().at(&failure.primary);
            Err(Refusal::Elsewhere(failure.into(), leader))
        }
        Err(Problem::Refused(failure)) => Err(Refusal::NoAnswer(failure.into())),
        Err(Problem::Unsent(reason) | Problem::Lost(reason)) => Err(no_answer(reason)),
        Err(Problem::Expired | Problem::Moved { .. }) => {
            Err(no_answer(format!("{} gave no routes", endpoint.address())))
        }
    }
}

fn read_routes(body: &[u8], endpoints: &Endpoints) -> std::result::Result<Heard, String> {
    let reply = body::read::<kv::RouteReply<'_>>(body).map_err(|error| error.to_string())?;
    let count = reply.partition_count();
    let partitions = reply.partitions().unwrap_or_default();
    if count == 0 || count > PARTITION_COUNT_MAX || partitions.len() != count as usize {
        return Err(format!(
            "routes of {} partitions for a table of {count}",
            partitions.len()
        ));
    }
    let place = |route: kv::PartitionRoute<'_>| {
        let address = route.primary().filter(|address| !address.is_empty());
        (route.ballot(), address.map(|address| endpoints.at(address)))
    };
    let mut secondaries: Vec<&str> = Vec::new();
    for address in partitions.iter().filter_map(|route| route.secondaries()) {
        for address in address.iter().filter(|address| !address.is_empty()) {
            if secondaries.len() < SECONDARIES_MAX && !secondaries.contains(&address) {
                secondaries.push(address);
            }
        }
    }
    Ok(Heard {
        table_id: reply.table_id(),
        partitions: partitions.iter().map(place).collect(),
        secondaries: secondaries
            .into_iter()
            .map(|address| endpoints.at(address))
            .collect(),
    })
}
