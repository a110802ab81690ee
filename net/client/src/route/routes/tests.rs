use super::*;
use crate::endpoint::{DialOptions, Endpoints};
use crate::route::Routers;

fn endpoints() -> Endpoints {
    Endpoints::new(DialOptions {
        connect_timeout: Duration::from_secs(1),
        inflight_max: 1,
        routers: Arc::<Routers>::default(),
    })
}

/// A table of one partition, as heard.
fn heard(table_id: u32, ballot: u64, primary: Option<&Arc<Endpoint>>) -> Heard {
    Heard {
        table_id,
        partitions: vec![(ballot, primary.cloned())],
        secondaries: Vec::new(),
    }
}

fn is_at(routes: &Routes, endpoint: &Arc<Endpoint>) -> bool {
    is(routes.primary(0).as_ref(), endpoint)
}

#[test]
fn an_older_ballot_is_not_gone_back_to_for_a_minute() {
    let endpoints = endpoints();
    let (old, new) = (endpoints.at("a:1"), endpoints.at("b:1"));
    let now = Instant::now();
    let routes = Routes::first(heard(1, 5, Some(&new)));
    let routes = routes.merged(heard(1, 4, Some(&old)), now);
    assert!(is_at(&routes, &new));
    let routes = routes.merged(heard(1, 4, Some(&old)), now + Duration::from_secs(59));
    assert!(is_at(&routes, &new));
    let routes = routes.merged(heard(1, 4, Some(&old)), now + Duration::from_secs(60));
    assert!(
        is_at(&routes, &old),
        "a cluster made anew is believed in the end"
    );
}

#[test]
fn an_answer_of_the_known_ballot_ends_the_patience_with_older_ones() {
    let endpoints = endpoints();
    let (old, new) = (endpoints.at("a:1"), endpoints.at("b:1"));
    let now = Instant::now();
    let later = now + Duration::from_secs(100);
    let routes = Routes::first(heard(1, 5, Some(&new)))
        .merged(heard(1, 4, Some(&old)), now)
        .merged(heard(1, 5, Some(&new)), now)
        .merged(heard(1, 4, Some(&old)), later);
    assert!(is_at(&routes, &new));
}

#[test]
fn a_redirect_stands_against_the_ballot_it_corrected_and_yields_to_a_newer_one() {
    let endpoints = endpoints();
    let [old, new, next] = ["a:1", "b:1", "c:1"].map(|address| endpoints.at(address));
    let now = Instant::now();
    let routes = Routes::first(heard(1, 5, Some(&old)));
    assert!(routes.redirect(0, &old, Arc::clone(&new), 0));
    assert!(is_at(&routes, &new));
    let routes = routes.merged(heard(1, 5, Some(&old)), now);
    assert!(is_at(&routes, &new), "a stale answer does not undo it");
    let routes = routes.merged(heard(1, 6, Some(&next)), now);
    assert!(is_at(&routes, &next));
}

#[test]
fn a_redirect_in_doubt_gives_way_to_the_next_answer() {
    let endpoints = endpoints();
    let (old, new) = (endpoints.at("a:1"), endpoints.at("b:1"));
    let routes = Routes::first(heard(1, 5, Some(&old)));
    routes.redirect(0, &old, Arc::clone(&new), 0);
    routes.doubt(0, &old);
    assert!(is_at(
        &routes.merged(heard(1, 5, Some(&old)), Instant::now()),
        &new
    ));
    routes.doubt(0, &new);
    assert!(is_at(
        &routes.merged(heard(1, 5, Some(&old)), Instant::now()),
        &old
    ));
}

#[test]
fn a_redirect_back_to_the_primary_before_is_followed_only_the_second_time() {
    let endpoints = endpoints();
    let (old, new) = (endpoints.at("a:1"), endpoints.at("b:1"));
    let now = Instant::now();
    let routes = Routes::first(heard(1, 5, Some(&old))).merged(heard(1, 6, Some(&new)), now);
    assert!(!routes.redirect(0, &new, Arc::clone(&old), 0));
    assert!(is_at(&routes, &new));
    assert!(routes.redirect(0, &new, Arc::clone(&old), 0));
    assert!(is_at(&routes, &old));
}

#[test]
fn a_redirect_counts_as_much_as_its_ballot() {
    let endpoints = endpoints();
    let (old, new) = (endpoints.at("a:1"), endpoints.at("b:1"));
    let now = Instant::now();
    let routes = Routes::first(heard(1, 5, Some(&old)));
    assert!(!routes.redirect(0, &old, Arc::clone(&new), 4));
    assert!(is_at(&routes, &old), "an older one is not followed");
    assert!(routes.redirect(0, &old, Arc::clone(&new), 6));
    let routes = routes.merged(heard(1, 5, Some(&old)), now);
    assert!(is_at(&routes, &new), "an older answer does not undo it");
    assert!(routes.redirect(0, &new, Arc::clone(&old), 7));
    assert!(is_at(&routes, &old), "a newer one may lead back");
}

#[test]
fn a_redirect_from_a_core_that_is_known_to_be_primary_no_more_changes_nothing() {
    let endpoints = endpoints();
    let [old, new, other] = ["a:1", "b:1", "c:1"].map(|address| endpoints.at(address));
    let routes = Routes::first(heard(1, 5, Some(&new)));
    assert!(
        routes.redirect(0, &old, other, 0),
        "try again, at the known one"
    );
    assert!(is_at(&routes, &new));
}

#[test]
fn a_table_dropped_and_made_again_is_taken_and_an_older_one_only_if_this_one_is_unknown() {
    let endpoints = endpoints();
    let (old, new) = (endpoints.at("a:1"), endpoints.at("b:1"));
    let now = Instant::now();
    let routes = Routes::first(heard(7, 9, Some(&old))).merged(heard(8, 1, Some(&new)), now);
    assert_eq!(routes.table_id, 8);
    assert!(is_at(&routes, &new));
    let routes = routes.merged(heard(7, 9, Some(&old)), now);
    assert_eq!(routes.table_id, 8);
    routes.disown();
    assert_eq!(routes.merged(heard(7, 9, Some(&old)), now).table_id, 7);
}

#[test]
fn an_answer_without_a_primary_counts_when_its_ballot_is_newer() {
    let endpoints = endpoints();
    let core = endpoints.at("a:1");
    let now = Instant::now();
    let routes = Routes::first(heard(1, 5, Some(&core))).merged(heard(1, 5, None), now);
    assert!(
        is_at(&routes, &core),
        "a core that does not know the address"
    );
    assert!(routes.merged(heard(1, 6, None), now).primary(0).is_none());
}

#[test]
fn the_cores_that_partitions_have_left_are_named_once() {
    let endpoints = endpoints();
    let (old, new) = (endpoints.at("a:1"), endpoints.at("b:1"));
    let two = |ballot, primary: &Arc<Endpoint>| Heard {
        partitions: vec![(ballot, Some(Arc::clone(primary))); 2],
        ..heard(1, ballot, None)
    };
    let before = Routes::first(two(1, &old));
    let same = before.merged(two(1, &old), Instant::now());
    assert!(!same.changes_since(&before).0);
    let after = same.merged(two(2, &new), Instant::now());
    let (is_changed, left) = after.changes_since(&same);
    assert!(is_changed);
    assert_eq!(left.len(), 1);
    assert!(Arc::ptr_eq(&left[0], &old));
}
