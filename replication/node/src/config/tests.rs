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

/// Keys that are left out of a printed configuration while nobody has set them.
const UNSET: [&str; 2] = ["token_file", "listen.advertise"];

/// `log.segment` and its default as the configuration prints it, without quotes.
fn flat(prefix: &str, table: &toml::Table, keys: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            toml::Value::Table(inner) => flat(&format!("{name}."), inner, keys),
            toml::Value::String(text) => keys.push((name, text.clone())),
            other => keys.push((name, other.to_string())),
        }
    }
}

/// The tables of docs/operations.md name every key, with its default, and no other.
#[test]
fn the_runbook_has_every_key_and_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let page = std::fs::read_to_string(path).expect("the runbook is there");
    let (_, rest) = page
        .split_once("\n## Settings of a node\n")
        .expect("its section");
    let (section, _) = rest.split_once("\n## ").expect("another one behind it");
    let (process, cluster) = section.split_once("\n`[cluster]`").expect("both tables");
    let config: toml::Table = Config::default().to_toml().parse().expect("it is TOML");
    for (part, text) in [("process", process), ("cluster", cluster)] {
        let mut told = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("| `")) {
            let (key, rest) = line.split_once("` | ").expect("a default behind the key");
            let default = rest.split(" | ").next().unwrap_or_default();
            told.push((key.to_owned(), default.replace('`', "")));
        }
        let mut keys = Vec::new();
        let table = config[part].as_table().expect("a section");
        flat("", table, &mut keys);
        for (key, default) in &keys {
            let found = told.iter().find(|(other, _)| other == key);
            let found = found.unwrap_or_else(|| panic!("{part}.{key} is not in the runbook"));
            let is_empty = default.is_empty() || default == "[]";
            let default = match default.as_str() {
                _ if is_empty => "none",
                "0 B" => "0",
                other => other,
            };
            assert_eq!(found.1, default, "{part}.{key}");
        }
        for (key, _) in told {
            let is_known = keys.iter().any(|(other, _)| *other == key);
            assert!(is_known || UNSET.contains(&&*key), "{part}.{key} is no key");
        }
    }
}
