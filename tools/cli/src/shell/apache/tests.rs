//! Every verb of Apache Pegasus' shell, and the command line of ours that it becomes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::Cli;
use crate::shell::native;
use crate::shell::words::{Line as Words, Word};

fn words(line: &str) -> Vec<OsString> {
    let mut commands = Words::whole(line.as_bytes()).unwrap();
    assert_eq!(commands.len(), 1, "{line}");
    commands.remove(0).into_iter().map(Word::os).collect()
}

fn facts() -> Facts {
    Facts {
        tables: vec![(2, "demo".to_owned())],
        cores: vec![
            ("10.0.0.1:34801".to_owned(), "1/0".to_owned()),
            ("10.0.0.2:34802".to_owned(), "2/1".to_owned()),
        ],
    }
}

fn translated(line: &str, table: Option<&str>) -> anyhow::Result<Action> {
    let command = command();
    let words = words(line);
    assert!(knows(&words, &command), "{line}: not known");
    let parsed = parse(&words, &command).map_err(|error| anyhow::anyhow!("{line}: {error}"))?;
    let facts = facts();
    parsed.translate(&Context {
        table,
        facts: &facts,
    })
}

fn joined(words: &[OsString]) -> String {
    let shown = words.iter().map(|word| {
        let word = crate::text::escape(word.as_encoded_bytes());
        if word.is_empty() {
            "''".to_owned()
        } else {
            word
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Our command lines, one after the other; those of the shell itself in the form of Rust.
fn becomes(line: &str) -> String {
    match translated(line, Some("t")).unwrap_or_else(|error| panic!("{line}: {error:#}")) {
        Action::Run { lines, output } => {
            let all: Vec<String> = lines.iter().map(|line| joined(line)).collect();
            let to = output.map_or_else(String::new, |path| format!(" > {}", path.display()));
            all.join("; ") + &to
        }
        Action::Mutate(argv) => format!("{} ..", joined(&argv.words())),
        Action::Own(own) => format!("{own:?}"),
    }
}

/// The words of Apache's shell, and ours.
const TRANSLATIONS: [(&str, &str); 88] = [
    // Rows.
    ("multi_set h a 1 b 2", "multi-set t h a 1 b 2"),
    ("multi_set h -a -1", "multi-set -- t h -a -1"),
    ("multi_get h", "multi-get t h"),
    ("multi_get h a b", "multi-get t h a b"),
    ("multi_get_sortkeys h", "multi-get --no-value t h"),
    ("multi_get_range h a b", "multi-get --from=a --to=b t h"),
    ("multi_get_range h '' ''", "multi-get t h"),
    (
        "multi_get_range h a b -a false -b true -n 5 -i -r",
        "multi-get --from-exclusive --to-inclusive --from=a --to=b --limit=5 --no-value --reverse t h",
    ),
    (
        "multi_get_range h '' '' -s prefix -y p",
        "multi-get --sort-prefix=p t h",
    ),
    (
        "multi_get_range h '' '' --sort_key_filter_type anywhere --sort_key_filter_pattern p",
        "multi-get --sort-contains=p t h",
    ),
    ("multi_del h a b", "multi-del t h a b"),
    ("multi_del_range h a b", "del-range --from=a --to=b t h"),
    (
        "multi_del_range h '' '' -s postfix -y p -i -o out --yes",
        "del-range --sort-postfix=p --yes t h > out",
    ),
    (
        "check_and_set h -c s -t not_exist -s w -v v -l 60 -r",
        "check-and-set --set-sort-key=w --ttl=60 t h s not-exist v",
    ),
    (
        "check_and_set h -c s -t int_greater_or_equal -o 5 -v v",
        "check-and-set --operand=5 t h s int-greater-or-equal v",
    ),
    (
        "check_and_mutate h -c s -t exist a=1 !b",
        "check-and-mutate t h s exist a=1 !b",
    ),
    (
        "check_and_mutate h -c s -t exist",
        "check-and-mutate t h s exist ..",
    ),
    ("hash_scan h '' ''", "scan --limit=0 t h"),
    (
        "hash_scan h a b -b true -n 3 -t 500 -d -i",
        "scan --to-inclusive --from=a --to=b --limit=3 --no-value --detailed --timeout=0.500 t h",
    ),
    (
        "hash_scan h '' '' -s prefix -y p -v anywhere -z x -o out",
        "scan --sort-prefix=p --value-contains=x --limit=0 t h > out",
    ),
    ("full_scan", "scan --limit=0 t"),
    (
        "full_scan -h prefix -x a -s postfix -y b -v anywhere -z c -n 10 -p 3",
        "scan --hash-prefix=a --sort-postfix=b --value-contains=c --partition=3 --limit=10 t",
    ),
    (
        r"full_scan -h prefix -x \xAB\x00",
        r"scan --hash-prefix=\xab\0 --limit=0 t",
    ),
    ("count_data", "count-data t"),
    (
        "count_data -c -a -d -n 10 -r 60 -p 0 -b 100 -t 2000",
        "count-data --partition=0 --timeout=2.000 --hash-keys --sizes --top=10 --seconds=60 t",
    ),
    ("count_data -p -1 -r 0", "count-data t"),
    ("copy_data -a u", "copy-data --to=u t"),
    (
        "copy_data -c 10.0.0.9:34601 -a u -e -n -i -m 8 -u -o 100 -h prefix -x p",
        "copy-data --hash-prefix=p --to=u --to-meta=10.0.0.9:34601 --concurrency=8 --no-ttl --no-overwrite --no-value t",
    ),
    (
        "copy_data -a u --rows_per_second 100 --state f",
        "copy-data --to=u --rows-per-second=100 --state=f t",
    ),
    ("clear_data", "clear-data t"),
    ("clear_data -f -p 2", "clear-data --partition=2 --yes t"),
    (
        "clear_data --force -h prefix -x tmp",
        "clear-data --hash-prefix=tmp --yes t",
    ),
    // Tables.
    ("ls", "table list"),
    ("ls -d -j", "table list --json"),
    ("ls -a", "table list; table list --dropped"),
    ("ls -s dropped", "table list --dropped"),
    ("ls -s all", "table list; table list --dropped"),
    ("ls -s available -o out", "table list > out"),
    ("ls -p x -m prefix", "table list --name-prefix=x"),
    ("list_tables", "table list"),
    ("list-tables", "table list"),
    ("app demo", "table show demo"),
    ("app demo -d -r -j -o out", "table show --json demo > out"),
    ("app", "table show t"),
    ("table-partitions demo", "table show demo"),
    ("app_disk demo -d", "table disk demo"),
    ("app_stat", "table stat"),
    ("app_stat -a demo -q -j", "table stat --json demo"),
    (
        "create demo",
        "table create --partitions=4 --replicas=3 --if-missing demo",
    ),
    (
        "create demo -p 8 -r 1 -f -e default_ttl=60,business.info=x",
        "table create --partitions=8 --replicas=1 demo; table env set demo default_ttl=60 business.info=x",
    ),
    ("drop demo", "table drop demo"),
    (
        "drop demo -r 3600 --yes",
        "table drop --reserve=3600 --yes demo",
    ),
    ("recall 3", "table recall 3"),
    ("recall 3 new", "table recall --name=new 3"),
    ("rename a b", "table rename a b"),
    ("get_app_envs", "table env list t"),
    ("get_app_envs -j", "table env list --json t"),
    ("set_app_envs k v l w", "table env set t k=v l=w"),
    ("del_app_envs k l", "table env delete t k l"),
    ("clear_app_envs -a", "table env clear --all t"),
    ("clear_app_envs -p k", "table env clear --prefix=k t"),
    ("get_replica_count demo", "table show demo"),
    ("set_replica_count demo 3", "table set-replicas demo 3"),
    // Nodes and the cluster.
    ("cluster_info", "cluster info"),
    ("cluster-info -r -j -o out", "cluster info --json > out"),
    ("nodes", "node list"),
    ("nodes -d -j -r", "node list --json"),
    ("nodes -u", "core list"),
    ("nodes -q -o out", "core list > out"),
    ("get_meta_level", "cluster level"),
    ("meta-level", "cluster level"),
    ("set_meta_level lively", "cluster level lively"),
    (
        "balance -g 2.5 -p move_pri -f 10.0.0.1:34801 -t 10.0.0.2:34802",
        "table move --primary-to=2/1 demo 5",
    ),
    (
        "balance --gpid 2.5 --type copy_sec --from 10.0.0.1:34801 --to 10.0.0.2:34802",
        "table move --replica-from=1/0 --replica-to=2/1 demo 5",
    ),
    (
        "propose -g 2.5 -p UPGRADE_TO_PRIMARY -t 10.0.0.1:34801 -n 10.0.0.2:34802 -f",
        "table move --primary-to=2/1 demo 5",
    ),
    ("remote_command help", "remote-command help"),
    (
        "remote_command -t replica-server perf-counters-by-substr memused -x",
        "remote-command --on=nodes -- perf-counters-by-substr memused -x",
    ),
    (
        "remote_command -l 10.0.0.1:34801,10.0.0.2:34802 server-stat",
        "remote-command --address=10.0.0.1:34801,10.0.0.2:34802 server-stat",
    ),
    (
        "server_info -t meta-server",
        "remote-command --on=meta server-info",
    ),
    ("server_stat", "remote-command server-stat"),
    ("ddd_diagnose -g 2 -s -o out", "status > out"),
    (
        "detect_hotkey -a demo -p 0 -t read -c query",
        "hotkeys --table=demo",
    ),
    ("manual_compact", "compact start t"),
    ("query_compact", "compact status"),
    // The shell itself.
    ("use demo", r#"Use { app_name: Some("demo") }"#),
    ("timeout 2000", "Timeout { time_in_ms: Some(2000) }"),
    ("escape_all true", "EscapeAll { escape: Some(true) }"),
    (
        "cc 10.0.0.9:34601",
        r#"Cc { cluster_name: Some("10.0.0.9:34601") }"#,
    ),
];

#[test]
fn each_line_of_apaches_shell_becomes_the_same_of_ours() {
    for (line, ours) in TRANSLATIONS {
        assert_eq!(becomes(line), ours, "{line}");
    }
}

/// Our parser takes what is made, so no option of it has another name.
#[test]
fn what_a_line_becomes_is_a_command_line_of_ours() {
    let ours = native::command();
    for (line, _) in TRANSLATIONS {
        let Ok(Action::Run { lines, .. }) = translated(line, Some("t")) else {
            continue;
        };
        for words in lines {
            let argv = ["pegasus".into()].into_iter().chain(words);
            let parsed = ours.clone().try_get_matches_from(argv);
            let matches = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
            Cli::from_arg_matches(&matches).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}

/// Those that ours has by the same name take the table in use, and the same words.
#[test]
fn verbs_that_both_have_take_the_same_words() {
    let ours = native::command();
    for line in [
        "set h s v",
        "set h s v 60",
        "set h -5 -6",
        "get h s",
        "get h",
        "del h s",
        "exist h s",
        "ttl h s",
        "incr h s",
        "incr h s 5",
        "incr h s -5",
        "count h",
        "hash h s",
        "hash h",
    ] {
        let words = words(line);
        assert!(!knows(&words, &command()), "{line}");
        let words = native::with_table(words, Some("t"), &ours);
        let argv = ["pegasus".into()].into_iter().chain(words);
        let matches = ours.clone().try_get_matches_from(argv);
        let (_, verb) = matches
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .remove_subcommand()
            .unwrap();
        assert_eq!(verb.get_one::<String>("table").unwrap(), "t", "{line}");
    }
}

/// Each verb of Apache's shell that is for everybody or for operators, but for those that `MISSING` explains.
#[test]
fn no_verb_of_apaches_shell_is_unknown() {
    let (apache, ours) = (command(), native::command());
    let all = "help version cluster_info app app_disk ls nodes create drop recall rename set_meta_level get_meta_level \
        propose use cc escape_all timeout hash set multi_set get multi_get multi_get_range multi_get_sortkeys del \
        multi_del multi_del_range incr check_and_set check_and_mutate exist count ttl hash_scan full_scan copy_data \
        clear_data count_data remote_command server_info server_stat app_stat flush_log local_get rdb_key_str2hex \
        rdb_key_hex2str rdb_value_hex2str sst_dump mlog_dump recover add_backup_policy ls_backup_policy \
        query_backup_policy modify_backup_policy disable_backup_policy enable_backup_policy restore_app \
        query_restore_status get_app_envs set_app_envs del_app_envs clear_app_envs ddd_diagnose add_dup query_dup dups \
        remove_dup start_dup pause_dup set_dup_fail_mode start_bulk_load query_bulk_load_status pause_bulk_load \
        restart_bulk_load cancel_bulk_load clear_bulk_load detect_hotkey get_replica_count set_replica_count \
        get_atomic_idempotent enable_atomic_idempotent disable_atomic_idempotent local_partition_split exit";
    for verb in all.split_whitespace() {
        let is_known = knows(&[verb.into()], &apache) || native::knows(verb, &ours);
        assert!(is_known || missing(verb).is_some(), "{verb}");
        assert!(!(is_known && missing(verb).is_some()), "{verb} is there");
    }
    let balance = words("balance -g 1.0 -p move_pri -f a:1 -t b:2");
    assert!(knows(&balance, &apache));
    assert!(!knows(&words("balance status"), &apache));
}

#[test]
fn what_is_wrong_is_said_before_anything_is_done() {
    for (line, table, says) in [
        ("multi_get h", None, "use TABLE"),
        ("multi_set h a", Some("t"), "a value is missing"),
        ("set_app_envs k", Some("t"), "a value is missing"),
        ("app", None, "use TABLE"),
        (
            "full_scan -h prefix",
            Some("t"),
            "--hash_key_filter_pattern",
        ),
        ("full_scan -h sideways -x a", Some("t"), "anywhere"),
        ("multi_get_range h a", Some("t"), "STOP_SORT_KEY"),
        (
            "balance -g 7.0 -p move_pri -f 10.0.0.1:34801 -t 10.0.0.2:34802",
            None,
            "no table with number 7",
        ),
        (
            "balance -g 2.0 -p move_pri -f 10.0.0.1:34801 -t 10.0.0.9:1",
            None,
            "10.0.0.9:1",
        ),
        ("balance -g 2 -p move_pri -f a -t b", None, "NUMBER.INDEX"),
        (
            "propose -g 2.0 -p ADD_SECONDARY -n 10.0.0.1:34801",
            None,
            "by themselves",
        ),
        ("create", None, "TABLE"),
    ] {
        let error = translated(line, table).map(drop).unwrap_err();
        assert!(format!("{error:#}").contains(says), "{line}: {error:#}");
    }
}

#[test]
fn the_definitions_are_consistent_and_each_verb_has_help() {
    let command = command();
    command.clone().debug_assert();
    for verb in command.get_subcommands() {
        assert!(verb.get_about().is_some(), "{}", verb.get_name());
        let asked = [verb.get_name().into(), "--help".into()];
        let help = parse(&asked, &command).map(drop).unwrap_err();
        assert!(!help.use_stderr(), "{}", verb.get_name());
    }
}
