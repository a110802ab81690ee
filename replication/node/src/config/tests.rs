mod any_bytes;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn defaults_with_a_directory_pass() {
    let config = parse("[process]\ndir = '/data'\n").expect("parses");
    config.check().expect("defaults are allowed");
    assert_eq!(parse(&config.to_toml()), Ok(config));
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let error = parse("[process]\ndir = '/data'\nfoo = 1\n").expect_err("refused");
    assert!(error.contains("foo"), "{error}");
}

#[test]
fn a_foreign_address_needs_a_token() {
    let config = parse("[process]\ndir = '/d'\nlisten.bind = '10.0.0.1'\n").expect("parses");
    let error = config.check().expect_err("refused").to_string();
    assert!(error.contains("token"), "{error}");
}

#[test]
fn sentences_name_the_key() {
    let config = parse("[process]\ndir = '/d'\nlog.segment = '3 KiB'\n").expect("parses");
    let error = config.check().expect_err("refused").to_string();
    assert!(
        error.starts_with("configuration process.log.segment: 3 KiB is refused"),
        "{error}"
    );
}

#[test]
fn every_segment_size_that_is_allowed_fits_the_budget_that_follows_from_it() {
    for segment in ["1 MiB", "64 MiB", "1 GiB"] {
        let text = format!("[process]\ndir = '/d'\nlog.segment = '{segment}'\n");
        let config = parse(&text).expect("parses");
        config.check().expect("allowed");
        assert!(config.process.log_budget_bytes() >= 4 * config.process.log.segment.0);
    }
}

#[test]
fn stages_are_measured_unless_switched_off() {
    let stages = |text: &str| parse(text).map(|config| config.process.stats.stages);
    assert_eq!(stages("[process]\ndir = '/d'\n"), Ok(StagesConfig::On));
    let off = "[process]\ndir = '/d'\nstats.stages = 'off'\n";
    assert_eq!(stages(off), Ok(StagesConfig::Off));
    let error = stages("[process]\ndir = '/d'\nstats.stages = 'maybe'\n").expect_err("refused");
    assert!(error.contains("maybe"), "{error}");
}

#[test]
fn a_stall_limit_out_of_range_is_refused() {
    for limit in [0, 10_001] {
        let text = format!("[process]\ndir = '/d'\nstall.limit_ms = {limit}\n");
        let error = parse(&text).expect("parses").check().expect_err("refused");
        assert!(error.to_string().contains("stall.limit_ms"), "{error}");
    }
}
