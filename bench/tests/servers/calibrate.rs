//! How much of what the bench can drive did a run use?

use crate::bench::Bench;
use crate::liar::Liar;
use crate::src::null_server::NullServer;

#[test]
fn a_calibrated_run_says_how_much_of_the_bench_it_used() {
    for scheme in ["native", "redis"] {
        let server = NullServer::start(Liar::new(), None).unwrap();
        let table = if scheme == "native" { "/t" } else { "" };
        let bench = Bench::new(
            format!("{scheme}://{}{table}", server.address),
            &["--records", "100", "--value-size", "64"],
        );
        bench.load(&[]).assert_success("load");
        let ended = bench.run(&[
            "--workload",
            "c",
            "--rate",
            "500",
            "--seconds",
            "0.5",
            "--calibrate",
        ]);
        ended.assert_success(scheme);
        let calibration = &ended.outcome()["bench"]["calibration"];
        assert_eq!(calibration["protocol"], scheme);
        let rate = calibration["operations_per_second"].as_f64().unwrap();
        let used = calibration["used_percent"].as_f64().unwrap();
        let run = ended.outcome()["operations_per_second"].as_f64().unwrap();
        assert!((used - run / rate * 100.0).abs() < 0.01, "{calibration}");
        let plain = bench.run(&["--workload", "c", "--operations", "100"]);
        assert!(plain.outcome()["bench"]["calibration"].is_null());
    }
}

#[test]
fn the_null_target_is_loaded_by_its_run_and_verified() {
    let bench = Bench::new("null://".to_owned(), &["--records", "100", "--fields", "3"]);
    let ended = bench.run(&["--workload", "a", "--verify", "--operations", "2000"]);
    ended.assert_success("null");
    assert_eq!(
        (&ended.outcome()["misses"], &ended.outcome()["operations"]),
        (&0.into(), &2_000.into())
    );
}
