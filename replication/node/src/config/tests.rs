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
