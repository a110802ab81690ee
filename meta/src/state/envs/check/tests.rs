use super::super::keys::{KEYS, check};
use super::parse_deny;
use std::collections::BTreeSet;

#[test]
fn every_sample_is_accepted_and_every_key_is_there_once() {
    let names: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), 33);
    for key in &KEYS {
        assert_eq!(check(key.name, key.sample), Ok(()), "{}", key.name);
    }
}

#[test]
fn values_at_their_limits_are_told_apart() {
    let accepted = [
        ("default_ttl", "0"),
        ("default_ttl", "2147483647"),
        ("replica.slow_query_threshold", "20"),
        ("rocksdb.write_buffer_size", "16777216"),
        ("rocksdb.write_buffer_size", "536870912"),
        ("rocksdb.num_levels", "10"),
        ("manual_compact.once.target_level", "1"),
        ("manual_compact.periodic.trigger_time", "0:00,23:59"),
        ("replica.write_throttling", "10K*reject*0"),
        ("replica.write_throttling", "10*delay*5,2M*reject*7"),
        ("replica.read_throttling_by_size", "1048576"),
        ("replica.read_throttling_by_size", "2K*reject*0"),
        ("business.info", ""),
    ];
    for (key, value) in accepted {
        assert_eq!(check(key, value), Ok(()), "{key} = {value}");
    }
    let refused = [
        ("default_ttl", "-1"),
        ("default_ttl", "2147483648"),
        ("default_ttl", "+1"),
        ("default_ttl", "1s"),
        ("default_ttl", ""),
        ("replica.slow_query_threshold", "19"),
        ("rocksdb.write_buffer_size", "16777215"),
        ("rocksdb.write_buffer_size", "536870913"),
        ("rocksdb.num_levels", "0"),
        ("rocksdb.num_levels", "11"),
        ("rocksdb.usage_scenario", "fast"),
        ("rocksdb.checkpoint.reserve_min_count", "0"),
        ("manual_compact.once.target_level", "0"),
        ("manual_compact.once.bottommost_level_compaction", "FORCE"),
        ("manual_compact.periodic.trigger_time", "24:00"),
        ("manual_compact.periodic.trigger_time", "3"),
        ("manual_compact.disabled", "1"),
        ("replica.deny_client_request", "timeout"),
        ("replica.deny_client_request", "timeout*scan"),
        ("replica.write_throttling", ""),
        ("replica.write_throttling", "10*delay"),
        ("replica.write_throttling", "10*delay*5,20*delay*5"),
        ("replica.write_throttling", "10G*delay*5"),
        ("replica.read_throttling", "20M"),
        ("replica_access_controller.ranger_policies", "{"),
        ("user_specified_compaction", "{\"ops\":[]}"),
        (
            "user_specified_compaction",
            "{\"ops\":[{\"type\":\"COT_UPDATE_TTL\",\"params\":\"{}\",\"rules\":[]}]}",
        ),
    ];
    for (key, value) in refused {
        assert!(check(key, value).is_err(), "{key} = {value}");
    }
}

#[test]
fn a_key_that_nobody_knows_is_named() {
    assert_eq!(
        check("replica.no_such_thing", "1"),
        Err("app_env 'replica.no_such_thing' is not supported".to_owned())
    );
}

#[test]
fn what_is_denied_is_told_apart() {
    assert_eq!(parse_deny("timeout*all"), Some((false, true, true)));
    assert_eq!(parse_deny("reconfig*read"), Some((true, true, false)));
    assert_eq!(parse_deny("reconfig*write"), Some((true, false, true)));
    assert_eq!(parse_deny("reconfig*"), None);
}
