#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::*;
use crate::plan::Work;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    run: RunOptions,
}

fn options(arguments: &str) -> RunOptions {
    let words = ["bench"].into_iter().chain(arguments.split_whitespace());
    Line::try_parse_from(words).unwrap().run
}

#[test]
fn nonsense_is_refused_with_the_option_and_its_range() {
    for (arguments, named) in [
        ("--rate 0", "--rate 0"),
        ("--rate NaN", "--rate NaN"),
        ("--rate=-5", "--rate -5"),
        ("--rate inf", "--rate inf"),
        ("--seconds NaN", "--seconds NaN"),
        ("--seconds 0", "--seconds 0"),
        ("--warm-up NaN", "--warm-up NaN"),
        ("--warm-up=-1", "--warm-up -1"),
        ("--operations 0", "--operations 0"),
        ("--arrival poisson", "--arrival needs --rate"),
        ("--records 0", "--records 0"),
        ("--timeout 0", "--timeout 0"),
        ("--fields 0", "--fields 0"),
        ("--fields 101", "--fields 101"),
        ("--value-size 2000000", "2000000 bytes"),
        ("--field-size 200000", "200000 bytes"),
        ("--records-per-hash-key 0", "--records-per-hash-key 0"),
        ("--threads 0", "--threads 0"),
        ("--threads 9 --connections 8", "--connections 8"),
        ("--inflight 0", "--inflight 0"),
        ("--connections 10000 --inflight 10000", "100000000"),
        ("--cpus 100000", "CPU 100000"),
        ("--verify --value-size 23", "at least 24 bytes"),
        ("--verify-state x", "--verify-state needs --verify"),
        ("--workload e", "--records-per-hash-key"),
        (
            "--workload e --records-per-hash-key 10 --fields 31",
            "--fields",
        ),
    ] {
        let error = options(&format!("--target null:// {arguments}"))
            .plan()
            .unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(named), "{arguments}: {error}");
    }
}

#[test]
fn targets_that_are_none_are_refused_by_name() {
    for (arguments, named) in [
        ("--target mongo://a:1", "mongo"),
        ("--table t --meta nowhere", "--meta"),
        ("--table t --meta 127.0.0.1:0", "port 0"),
    ] {
        let error = format!("{:#}", options(arguments).plan().unwrap_err());
        assert!(error.contains(named), "{arguments}: {error}");
    }
}

#[test]
fn what_excludes_each_other_is_a_usage_error() {
    for arguments in [
        "",
        "--target null:// --table t",
        "--table t --value-size 100 --fields 5",
        "--table t --operations 5 --seconds 5",
        "--table t --operations 5 --rate 5",
        "--table t --floor a --with-floor b",
    ] {
        let words = ["bench"].into_iter().chain(arguments.split_whitespace());
        let kind = Line::try_parse_from(words)
            .map(|_| ())
            .map_err(|error| error.kind());
        assert!(kind.is_err(), "{arguments}");
    }
}

#[test]
fn a_plan_is_what_the_options_say() {
    let plan =
        options("--target null:// --rate 500 --arrival poisson --workload d --value-size 50")
            .plan()
            .unwrap();
    assert_eq!(plan.rate.unwrap().per_second, 500.0);
    assert_eq!(
        (plan.task.layout.fields, plan.task.layout.value_bytes),
        (0, 50)
    );
    assert_eq!(plan.distribution, crate::keys::Distribution::Latest);
    assert!(matches!(plan.work, Work::RunFor { .. }));
    let rows = options("--target null://").layout_of_rows();
    assert_eq!(rows, (10, 100));
}

impl RunOptions {
    fn layout_of_rows(&self) -> (usize, usize) {
        let layout = self.common.layout().unwrap();
        (layout.fields, layout.value_bytes)
    }
}
