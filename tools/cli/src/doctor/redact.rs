//! Takes out what must not leave: secrets of settings, and whatever a log says of keys.

/// Settings whose name has one of these in it have no value in the archive.
const SECRET: [&str; 4] = ["token", "password", "secret", "key"];
const REMOVED: &str = "(removed)";

/// The kernel's command line may name a key.
pub(super) fn settings_of_kernel(text: String) -> String {
    text.lines().map(|line| log_line(line) + "\n").collect()
}

/// TOML, line by line. A value that goes on over several lines is removed as a whole.
pub(super) fn settings(text: String) -> String {
    let mut out = String::with_capacity(text.len());
    // Quotes or a bracket that a removed value has opened.
    let mut open: Option<&str> = None;
    for line in text.lines() {
        if let Some(end) = open {
            if line.contains(end) {
                open = None;
            }
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|(name, _)| is_secret(name)) else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        out.push_str(&format!("{name}= \"{REMOVED}\"\n"));
        let value = value.trim();
        let pairs = [("\"\"\"", "\"\"\""), ("'''", "'''"), ("[", "]"), ("{", "}")];
        open = pairs.into_iter().find_map(|(begin, end)| {
            let rest = value.strip_prefix(begin)?;
            (!rest.contains(end)).then_some(end)
        });
    }
    out
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET.iter().any(|it| name.contains(it))
}

/// What this program has printed. Text that is no JSON stays as it is.
pub(super) fn json(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(mut value) => {
            take_out(&mut value);
            serde_json::to_string_pretty(&value).unwrap_or_default()
        }
        Err(_) => text.to_owned(),
    }
}

fn take_out(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            let has_secret_name = fields
                .get("key")
                .and_then(|it| it.as_str())
                .is_some_and(|it| {
                    ["token", "password", "secret"]
                        .iter()
                        .any(|word| it.contains(word))
                });
            if has_secret_name {
                fields.insert("value".to_owned(), REMOVED.into());
            }
            for (name, field) in fields.iter_mut() {
                // A list of settings names each of them as its key; other keys are of rows.
                let is_name = name == "key" && field.is_string();
                match field {
                    serde_json::Value::String(text) if !is_name && is_secret(name) => {
                        REMOVED.clone_into(text);
                    }
                    field => take_out(field),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(take_out),
        _ => {}
    }
}

/// The last lines of a log, without values of fields whose name says that they are secret, or a key.
pub(super) fn log(text: &str, lines_max: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(lines_max)..];
    let mut out = String::new();
    for line in last {
        out.push_str(&log_line(line));
        out.push('\n');
    }
    out
}

/// Fields are `name=value`, a value with spaces is quoted.
fn log_line(line: &str) -> String {
    if let Some((name, _)) = line.split_once(" = ").filter(|(name, _)| is_secret(name)) {
        // The settings of a node, as it says them at start.
        return format!("{name} = \"{REMOVED}\"");
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        let begin = before[..at].rfind(|it: char| !(it.is_alphanumeric() || it == '_'));
        let name = &before[begin.map_or(0, |it| it + 1)..at];
        let length = value_length(after);
        let value = &after[..length];
        out.push_str(if is_secret(name) && !value.is_empty() {
            REMOVED
        } else {
            value
        });
        rest = &after[length..];
    }
    out.push_str(rest);
    out
}

/// Bytes of the value at the start of `text`.
fn value_length(text: &str) -> usize {
    let Some(quoted) = text.strip_prefix('"') else {
        return text.find([' ', ',']).unwrap_or(text.len());
    };
    let mut is_escaped = false;
    for (at, letter) in quoted.char_indices() {
        match letter {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => return at + 2,
            _ => is_escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_settings_and_the_rest_stays() {
        let text = "[process]\ndir = \"/d\"\ntoken_file = \"/etc/t\"\napi.Password = 'x'\nkeys = [\n  \"a\",\n]\ncores = 2\n";
        let kept = settings(text.to_owned());
        for secret in ["/etc/t", "'x'", "\"a\""] {
            assert!(!kept.contains(secret), "{secret} is in {kept}");
        }
        assert!(
            kept.contains("dir = \"/d\"\n") && kept.ends_with("cores = 2\n"),
            "{kept}"
        );
    }

    #[test]
    fn secrets_and_keys_leave_what_was_printed() {
        let text = r#"{"a": {"hash_key": "user-1", "n": 1}, "envs": [{"key": "x.token", "value": "s3"}, {"key": "ttl", "value": "60"}]}"#;
        let kept = json(text);
        assert!(!kept.contains("user-1") && !kept.contains("s3"), "{kept}");
        assert!(
            kept.contains("\"60\"") && kept.contains("\"x.token\""),
            "{kept}"
        );
        assert_eq!(json("no json"), "no json");
    }

    #[test]
    fn keys_leave_logs_and_only_the_last_lines_stay() {
        let text = "old\nWARN slow request hash_key=\"user \\\"1\\\"\" took_us=900 key=abc, table=1\ntoken_file = \"/etc/t\"\n";
        let kept = log(text, 2);
        assert_eq!(
            kept,
            "WARN slow request hash_key=(removed) took_us=900 key=(removed), table=1\ntoken_file = \"(removed)\"\n"
        );
    }
}
