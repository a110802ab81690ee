//! `--verify` passes honest servers and catches liars: a check that never fails checks nothing.

use crate::bench::{Bench, Ended};
use crate::liar::{Liar, Lie};
use crate::src::null_server::NullServer;
use std::collections::HashMap;

/// Protocol and layout. Rows are read as ranges, values one by one.
#[derive(Clone, Copy, Debug)]
enum Through {
    NativeValues,
    NativeRows,
    RedisValues,
    RedisRows,
}

impl Through {
    const ALL: [Self; 4] = [
        Self::NativeValues,
        Self::NativeRows,
        Self::RedisValues,
        Self::RedisRows,
    ];

    fn bench(self, server: &NullServer) -> Bench {
        let url = match self {
            Self::NativeValues | Self::NativeRows => format!("native://{}/t", server.address),
            Self::RedisValues | Self::RedisRows => format!("redis://{}", server.address),
        };
        match self {
            Self::NativeValues | Self::RedisValues => {
                Bench::new(url, &["--records", "100", "--value-size", "64"])
            }
            Self::NativeRows | Self::RedisRows => Bench::new(
                url,
                &["--records", "100", "--fields", "3", "--field-size", "64"],
            ),
        }
    }
}

const CLOSED: [&str; 5] = ["--workload", "a", "--verify", "--operations", "3000"];
const OPEN: [&str; 9] = [
    "--workload",
    "a",
    "--verify",
    "--rate",
    "5000",
    "--seconds",
    "0.5",
    "--warm-up",
    "0",
];

/// Loads truly, then runs both loops while the server lies.
fn runs_under(lie: Lie, through: Through) -> Vec<(String, Ended)> {
    let loops: [(&str, &[&str]); 2] = [("closed", &CLOSED), ("open", &OPEN)];
    loops
        .iter()
        .map(|(name, options)| {
            let liar = Liar::new();
            let server = NullServer::start(liar.clone(), None).unwrap();
            let bench = through.bench(&server);
            bench.load(&[]).assert_success("load");
            liar.tell(lie);
            (
                format!("{lie:?}, {through:?}, {name} loop"),
                bench.run(options),
            )
        })
        .collect()
}

/// Every loop and protocol ends with exit code 1 and violations of this kind and no other.
fn caught_as(lie: Lie, fault: &str) {
    for through in Through::ALL {
        for (what, ended) in runs_under(lie, through) {
            assert_eq!(ended.code, Some(1), "{what}: {}", ended.stderr);
            assert!(
                ended.stderr.contains("answers cannot be true"),
                "{what}: {}",
                ended.stderr
            );
            assert_eq!(
                ended.faults(),
                [fault],
                "{what}: {}",
                ended.outcome()["verify"]
            );
        }
    }
}

#[test]
fn an_honest_server_passes() {
    for through in Through::ALL {
        for (what, ended) in runs_under(Lie::None, through) {
            ended.assert_success(&what);
            let verify = &ended.outcome()["verify"];
            assert_eq!(verify["violations"], 0, "{what}: {verify}");
            assert!(
                verify["checked"].as_u64().unwrap() > 500,
                "{what}: {verify}"
            );
            assert!(verify["swept"].as_u64().unwrap() > 0, "{what}: {verify}");
            assert_eq!(ended.outcome()["errors_total"], 0, "{what}");
        }
    }
}

#[test]
fn an_acknowledged_write_that_was_not_done_is_stale() {
    caught_as(Lie::DropWrite, "stale");
}

#[test]
fn the_answer_of_another_key_is_foreign() {
    caught_as(Lie::SwapAnswers, "foreign");
}

#[test]
fn an_older_answer_is_stale() {
    caught_as(Lie::ReplayOlder, "stale");
}

#[test]
fn a_changed_bit_is_damage() {
    caught_as(Lie::FlipBit, "damaged");
}

#[test]
fn a_row_that_exists_and_is_not_found_is_lost() {
    caught_as(Lie::NotFound, "lost");
}

/// Loads and runs truly, restarts the server with what `survives` says, and checks everything again.
fn after_a_restart(
    through: Through,
    second: &[&str],
    survives: impl Fn(&Liar) -> Survivors,
) -> Ended {
    let liar = Liar::new();
    let server = NullServer::start(liar.clone(), None).unwrap();
    let bench = through.bench(&server);
    let state = bench.file("state.json");
    bench
        .load(&["--verify-state", &state])
        .assert_success("load");
    let survivors = survives(&liar);
    let run = |options: &[&str]| bench.run(&[options, &["--verify-state", &state]].concat());
    run(&CLOSED).assert_success("before the restart");
    match survivors {
        Survivors::All => liar.restart_with(liar.snapshot()),
        Survivors::These(snapshot) => liar.restart_with(snapshot),
    }
    run(second)
}

enum Survivors {
    All,
    These(HashMap<(Vec<u8>, Vec<u8>), Vec<u8>>),
}

#[test]
fn what_a_restart_has_lost_is_found_by_the_next_run() {
    for through in Through::ALL {
        for second in [&CLOSED[..], &OPEN] {
            let what = format!("{through:?} {second:?}");
            let all = after_a_restart(through, second, |_| Survivors::All);
            all.assert_success(&what);

            let none = after_a_restart(through, second, |_| Survivors::These(HashMap::new()));
            assert_eq!(none.code, Some(1), "{what}: {}", none.stderr);
            assert!(
                none.faults().contains(&"lost".to_owned()),
                "{what}: {:?}",
                none.faults()
            );

            let as_loaded = |liar: &Liar| Survivors::These(liar.snapshot());
            let loaded = after_a_restart(through, second, as_loaded);
            assert_eq!(loaded.code, Some(1), "{what}: {}", loaded.stderr);
            assert_eq!(
                loaded.faults(),
                ["stale"],
                "{what}: {}",
                loaded.outcome()["verify"]
            );
        }
    }
}
