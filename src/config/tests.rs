//! The tables under `tests/data/config/`: what is written on the left, what
//! must come of it on the right. A person can read and extend them.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::node::{YamlKey, YamlNode};
use super::*;
use crate::cli::check_config;
use crate::limits;

/// A folder of this test's own, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pg-witness-config-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, mode: u32, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// One case of a table; the tables say at their head how it is written.
#[derive(Default)]
struct Case {
    title: String,
    env: Vec<(String, String)>,
    files: Vec<(String, u32, String)>,
    load: Option<String>,
    default: Option<String>,
    as_controller: bool,
    refused: bool,
    expected: Vec<String>,
}

fn cases(table: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut outcome = false;
    for line in table.lines().skip_while(|line| !line.starts_with("=== ")) {
        if let Some(title) = line.strip_prefix("=== ") {
            outcome = false;
            cases.push(Case {
                title: title.into(),
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().unwrap();
        if let Some(word) = line.strip_prefix("--- ") {
            outcome = true;
            case.refused = word == "refused";
            assert!(case.refused || word == "accepted", "{}", case.title);
        } else if outcome {
            if !line.trim().is_empty() {
                case.expected.push(line.to_owned());
            }
        } else if let Some(variable) = line.strip_prefix("$ ") {
            let (name, value) = variable.split_once('=').unwrap();
            let value = value.replace("\\n", "\n");
            case.env.push((name.into(), value));
        } else if let Some(name) = line.strip_prefix("? ") {
            case.default = Some(name.into());
        } else if let Some(file) = line.strip_prefix("> ") {
            let (name, mode) = file.split_once(' ').unwrap_or((file, "600"));
            let mode = u32::from_str_radix(mode, 8).unwrap();
            case.files.push((name.into(), mode, String::new()));
        } else if let Some(load) = line.strip_prefix("@ ") {
            case.as_controller = load.starts_with("patroni_raft_controller");
            case.load = load.split(' ').nth(1).map(Into::into);
        } else if let Some((_, _, text)) = case.files.last_mut() {
            writeln!(text, "{line}").unwrap();
        }
    }
    cases
}

/// Loads what a case says; the folder's name is cut out of what is told.
fn outcome(case: &Case) -> (Result<Config, ConfigError>, String) {
    let folder = Folder::new();
    let within = format!("{}/", folder.0.display());
    for (name, mode, text) in &case.files {
        folder.write(name, *mode, &text.replace("$DIR/", &within));
    }
    let named = case
        .load
        .as_ref()
        .or(case.files.first().map(|(name, ..)| name));
    let source = ConfigSource {
        file: named
            .filter(|name| *name != "nothing")
            .map(|name| folder.0.join(name)),
        default_file: case.default.as_ref().map(|name| folder.0.join(name)),
        as_controller: case.as_controller,
    };
    let env = case
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.replace("$DIR/", &within)))
        .collect();
    let result = load(&source, &env);
    let told = match &result {
        Ok(config) => check_config::report(config),
        Err(error) => error.to_string(),
    };
    let words = told.lines().map(|line| line.split_whitespace());
    let lines: Vec<String> = words
        .map(|line| line.collect::<Vec<_>>().join(" "))
        .collect();
    (result, lines.join("\n").replace(&within, ""))
}

fn check(table: &str) {
    let cases = cases(table);
    assert!(cases.len() > 5, "the table was not understood");
    let mut wrong = String::new();
    for case in &cases {
        let (result, told) = outcome(case);
        let fits = result.is_err() == case.refused
            && !case.expected.is_empty()
            && if case.refused {
                told == case.expected.join("\n")
            } else {
                case.expected
                    .iter()
                    .all(|line| match line.strip_prefix("not ") {
                        Some(line) => !told.lines().any(|told| told.starts_with(line)),
                        None => told.lines().any(|told| told == line),
                    })
            };
        if !fits {
            writeln!(wrong, "=== {}\n{told}\n", case.title).unwrap();
        }
        // S11: the secrets of the tables all hold this word.
        let debug = format!("{:?}", result);
        assert!(!told.contains("hunter2"), "{}: {told}", case.title);
        assert!(!debug.contains("hunter2"), "{}: {debug}", case.title);
    }
    assert!(wrong.is_empty(), "these went otherwise:\n{wrong}");
}

#[test]
fn patroni_yaml() {
    check(include_str!("../../tests/data/config/patroni.txt"));
}

#[test]
fn own_json() {
    check(include_str!("../../tests/data/config/json.txt"));
}

#[test]
fn environment() {
    check(include_str!("../../tests/data/config/environment.txt"));
}

/// As `tests/python/yaml_scalars.py` writes values.
fn canonical(node: &YamlNode) -> String {
    match node {
        YamlNode::Null => "none".into(),
        YamlNode::Bool(true) => "bool True".into(),
        YamlNode::Bool(false) => "bool False".into(),
        YamlNode::Int(Some(value)) => format!("int {value}"),
        YamlNode::Int(None) => "int large".into(),
        YamlNode::Float(value) if value.is_nan() => "float nan".into(),
        YamlNode::Float(value) => format!("float {:016x}", value.to_bits()),
        YamlNode::Text(text) => format!("str{}", python_json(text)),
        YamlNode::Bytes(bytes) => bytes.iter().fold("bytes ".into(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        }),
        YamlNode::Time => "time".into(),
        YamlNode::List(list) => {
            let list: Vec<String> = list.iter().map(canonical).collect();
            format!("[{}]", list.join(", "))
        }
        YamlNode::Map(map) => {
            let mut pairs: Vec<String> = map
                .iter()
                .map(|(key, node)| match key {
                    YamlKey::Text(text) => format!("{}: {}", python_json(text), canonical(node)),
                    YamlKey::Other(text) => format!("{text}: {}", canonical(node)),
                })
                .collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// `json.dumps` of a text.
fn python_json(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\t' => json.push_str("\\t"),
            '\r' => json.push_str("\\r"),
            ' '..='~' => json.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(json, "\\u{unit:04x}").unwrap();
                }
            }
        }
    }
    json.push('"');
    json
}

#[test]
fn yaml_is_read_as_pyyaml_reads_it() {
    let table = include_str!("../../tests/data/config/yaml_scalars.txt");
    let mut wrong = String::new();
    let mut count = 0;
    for line in table.lines() {
        let (document, expected) = line.split_once('\t').unwrap();
        let mut buffer = [0; 4096];
        let (document, _): (String, _) =
            serde_json_core::from_str_escaped(document, &mut buffer).unwrap();
        let read = yaml::parse(&document, &Place::top("t"));
        let read = read.map_or_else(|_| "error".into(), |node| canonical(&node));
        if read != expected {
            writeln!(wrong, "{document:?}: PyYAML {expected}, here {read}").unwrap();
        }
        count += 1;
    }
    assert!(count > 1000);
    assert!(wrong.is_empty(), "{wrong}");
}

/// Any beginning and any one changed byte of good files: S9, no panic, and the
/// secret never told.
#[test]
fn no_text_can_stop_it() {
    let yaml = "scope: main\nraft: &r\n  self_addr: 10.0.0.9:1\n  partner_addrs:\n  - 10.0.0.1:1\n  \
                - \"10.0.0.2:1\"\n  password: hunter2hunter2\n  min_timeout: 0.5 # x\nb:\n  <<: *r\n  \
                c: |\n    d\n  e: {f: [g, !!int 1]}\n";
    let json = "{\"data_dir\": \"/d\", \"clusters\": [{\"name\": \"main\", \"self_addr\": \
                \"10.0.0.9:1\", \"password\": \"hunter2hunter2\\u00e9\\n\", \"ttl\": 1.5, \
                \"partner_addrs\": [\"10.0.0.1:1\"]}]}";
    let place = Place::top("t");
    let told = |result: Result<(), ConfigError>| {
        let message = result.err().map(|error| error.to_string());
        assert!(message.is_none_or(|message| !message.contains("hunter2hunter2")));
    };
    let understand = |text: &str| {
        told(
            yaml::parse(text, &place)
                .and_then(|root| patroni::read(root, &place, &mut Vec::new()).map(drop)),
        );
        told(json::read(text, &place).map(drop));
    };
    for good in [yaml, json] {
        for at in 0..=good.len() {
            understand(&good[..at]);
            understand(&good[at..]);
            for byte in b"\0\t\n \"'#%&*,-:<>?[]{}|!@\\~9" {
                let mut text = good.as_bytes().to_vec();
                if let Some(changed) = text.get_mut(at) {
                    *changed = *byte;
                }
                understand(std::str::from_utf8(&text).unwrap());
            }
        }
    }
    for deep in [
        "[",
        "{",
        "- ",
        "{a: ",
        "? ",
        "[{",
        "!!str [",
        "\"",
        "{\"clusters\":[",
    ] {
        understand(&deep.repeat(limits::CONFIG_BYTES_MAX / deep.len()));
    }
}

#[test]
fn a_file_beyond_the_cap_is_not_read() {
    // S10
    let folder = Folder::new();
    let text = "#".repeat(limits::CONFIG_BYTES_MAX + 1);
    let path = folder.write("patroni.yml", 0o600, &text);
    let source = ConfigSource {
        file: Some(path.clone()),
        ..ConfigSource::default()
    };
    assert_eq!(
        load(&source, &Env::default()),
        Err(ConfigError::TooLarge {
            place: Place::top(path.display().to_string()),
            bytes_max: limits::CONFIG_BYTES_MAX
        })
    );
}

#[test]
fn the_password_is_the_bytes_that_python_would_use() {
    let folder = Folder::new();
    let file = folder.write("main.password", 0o600, "hunter2 \r\n");
    let json = format!(
        "{{\"data_dir\": \"/d\", \"clusters\": [{{\"name\": \"a\", \"self_addr\": \"a:1\", \
         \"partner_addrs\": [\"b:1\"], \"password_file\": \"{}\"}}, {{\"name\": \"b\", \
         \"self_addr\": \"a:2\", \"partner_addrs\": [\"b:1\"], \
         \"password\": \"hunter2 \\u00e9\\t\\\"\"}}]}}",
        file.display()
    );
    let path = folder.write("pg-witness.json", 0o600, &json);
    let source = |path: &PathBuf| ConfigSource {
        file: Some(path.clone()),
        ..ConfigSource::default()
    };
    let config = load(&source(&path), &Env::default()).unwrap();
    let password = |at: usize| config.clusters[at].password.as_ref().unwrap().expose();
    assert_eq!(password(0), b"hunter2 ");
    assert_eq!(password(1), "hunter2 é\t\"".as_bytes());

    let yaml = "raft: {self_addr: 'a:1', data_dir: /d, password: '0123'}";
    let path = folder.write("patroni.yml", 0o600, yaml);
    let config = load(&source(&path), &Env::default()).unwrap();
    let password = config.clusters[0].password.as_ref().unwrap();
    assert_eq!(password.expose(), b"0123");
}

#[test]
fn a_reload_changes_level_and_password_and_says_what_it_cannot() {
    let config = |text: &str| {
        let folder = Folder::new();
        let path = folder.write("pg-witness.json", 0o600, text);
        let source = ConfigSource {
            file: Some(path),
            ..ConfigSource::default()
        };
        let mut config = load(&source, &Env::default()).unwrap();
        config.source = Source::Own("pg-witness.json".into());
        config
    };
    let cluster = |name: &str, port: u16, more: &str| {
        format!(
            "{{\"name\": \"{name}\", \"self_addr\": \"w:{port}\", \
             \"partner_addrs\": [\"b:1\"]{more}}}"
        )
    };
    let file = |level: &str, clusters: &[String]| {
        config(&format!(
            "{{\"data_dir\": \"/d\", \"log\": {{\"level\": \"{level}\"}}, \"clusters\": [{}]}}",
            clusters.join(", ")
        ))
    };
    let old = file(
        "info",
        &[
            cluster("a", 1, ", \"password\": \"hunter2\""),
            cluster("b", 2, ""),
            cluster("c", 3, ""),
        ],
    );
    assert_eq!(reload(&old, &old), ReloadPlan::default());

    let new = file(
        "debug",
        &[
            cluster("a", 1, ", \"password\": \"hunter3\""),
            cluster(
                "b",
                4,
                ", \"password\": \"hunter2\", \"ttl\": 60, \"election\": \"equal\"",
            ),
            cluster("d", 5, ""),
        ],
    );
    let plan = reload(&old, &new);
    assert_eq!(plan.level, Some(LevelFilter::Debug));
    assert_eq!(
        plan.passwords,
        [("a".to_owned(), Secret::new("hunter3").unwrap())]
    );
    let refused: Vec<&str> = plan
        .refused
        .iter()
        .map(|line| {
            line.strip_suffix("; it takes effect at the next start")
                .unwrap()
        })
        .collect();
    assert_eq!(
        refused,
        [
            "b: self_addr changed",
            "b: election changed",
            "b: the times changed",
            "b: a password was added",
            "c: the cluster was removed",
            "d: the cluster was added"
        ]
    );
    assert!(!format!("{plan:?}").contains("hunter"));
}

/// What was refused is not in force: the next reload begins where this one did.
#[test]
fn a_reload_compares_with_what_is_in_force() {
    let folder = Folder::new();
    let config = |more: &str| {
        let text = format!(
            "scope: main\nraft: {{self_addr: 'w:1', partner_addrs: ['b:1'], data_dir: /d{more}}}"
        );
        let source = ConfigSource {
            file: Some(folder.write("patroni.yml", 0o600, &text)),
            ..ConfigSource::default()
        };
        load(&source, &Env::default()).unwrap()
    };
    let mut in_force = config(", password: right");
    let started = in_force.clone();
    let plan = reload(&in_force, &config(", min_timeout: 0.5"));
    assert_eq!(plan.refused.len(), 2);
    assert_eq!(plan.notes().len(), 2);
    plan.put_in_force(&mut in_force);
    assert_eq!(in_force, started);

    let plan = reload(&in_force, &config(", password: new"));
    let new = Secret::new("new").unwrap();
    assert_eq!(plan.passwords, [("main".to_owned(), new.clone())]);
    assert_eq!(plan.notes(), Vec::<String>::new());
    plan.put_in_force(&mut in_force);
    assert_eq!(in_force.clusters[0].password, Some(new));
    assert_eq!(
        reload(&in_force, &config(", password: new")),
        ReloadPlan::default()
    );
}

/// The words in backticks of the first column of the table of README.md whose head
/// begins with `head`.
fn documented(head: &str) -> Vec<String> {
    let readme = include_str!("../../README.md");
    let from = readme.find(head).unwrap();
    let table = readme[from..].lines().skip(2);
    let rows = table.take_while(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let mut words: Vec<String> = words.map(Into::into).collect();
    words.sort();
    words
}

#[test]
fn the_readme_documents_what_is_accepted() {
    for (head, keys) in [
        ("| key | environment |", &patroni::RAFT_KEYS[..]),
        ("| key of a cluster |", &json::CLUSTER_KEYS),
        ("| key of `\"probe\": {...}` |", &probe::KEYS),
        ("| key of `http` in the JSON |", &http::KEYS),
    ] {
        let mut accepted: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        accepted.sort();
        assert_eq!(documented(head), accepted, "{head}");
    }
    let readme = include_str!("../../README.md");
    let internal = [
        "PG_WITNESS_APPLIANCE",
        "PG_WITNESS_BOOTSTRAP",
        "PG_WITNESS_BUG",
        "PG_WITNESS_DEMO",
        "PG_WITNESS_PROBE_",
        "PG_WITNESS_SEEDS",
        "PG_WITNESS_STOP_ENGINES_AFTER_MS",
        "PG_WITNESS_WATCHDOG",
    ];
    for name in variables::KNOWN.iter().filter(|n| !internal.contains(n)) {
        assert!(readme.contains(&format!("`{name}")), "{name}");
    }
    for name in [
        "PATRONI_LOG_LEVEL",
        "PATRONI_SCOPE",
        "PATRONI_CONFIGURATION",
    ] {
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
    let card = include_str!("../../image/card/pg-witness.example.txt");
    for key in appliance::KEYS {
        assert!(card.contains(&format!("\"{key}\"")), "{key}");
    }
}

#[test]
fn pairs_of_surrogates_are_one_character() {
    let read = |password: &str| {
        let json = format!(
            "{{\"data_dir\": \"/d\", \"clusters\": [{{\"name\": \"a\", \"self_addr\": \"a:1\", \
             \"partner_addrs\": [\"b:1\"], \"password\": \"{password}\"}}]}}"
        );
        let raw = json::read(&json, &Place::top("t"));
        raw.map(|own| own.clusters[0].password.as_ref().unwrap().value.clone())
    };
    for (written, meant) in [
        ("\\ud83d\\udd11", "\u{1f511}"),
        ("x\\ud83d\\udd11y\\u00e9", "x\u{1f511}yé"),
        // An escaped backslash before it: six plain characters.
        ("\\\\ud83d\\\\udd11", "\\ud83d\\udd11"),
        ("\\\\\\ud83d\\udd11", "\\\u{1f511}"),
    ] {
        let password = read(written).unwrap();
        assert_eq!(password.expose(), meant.as_bytes(), "{written}");
    }
    for lone in ["\\ud83d", "\\udd11\\ud83d", "\\ud83dx", "\\ud83d\\u0041"] {
        assert!(read(lone).is_err(), "{lone}");
    }
}

#[test]
fn the_mark_of_an_encoding_is_no_part_of_a_text() {
    let folder = Folder::new();
    let file = folder.write("main.password", 0o600, "\u{feff}hunter2\r\n");
    assert_eq!(
        read_password(&file, &Env::default()).unwrap().expose(),
        b"hunter2"
    );
    let json = "\u{feff}{\"data_dir\": \"/d\", \"clusters\": [{\"name\": \"a\", \"self_addr\": \
                \"a:1\", \"partner_addrs\": [\"b:1\"]}]}";
    for name in ["pg-witness.json", "config"] {
        let source = ConfigSource {
            file: Some(folder.write(name, 0o600, json)),
            ..ConfigSource::default()
        };
        assert!(load(&source, &Env::default()).is_ok(), "{name}");
    }
    let path = folder.write("utf16.json", 0o600, "");
    fs::write(&path, b"\xff\xfe{\0}\0").unwrap();
    let source = ConfigSource {
        file: Some(path),
        ..ConfigSource::default()
    };
    let refused = load(&source, &Env::default()).unwrap_err().to_string();
    assert!(refused.contains("save it as UTF-8"), "{refused}");
}

#[test]
fn the_probe_logs_in_to_the_data_nodes_and_to_whom_it_may() {
    let folder = Folder::new();
    let json = "{\"data_dir\": \"/d\", \"probe\": {\"allow\": [\"10.9.0.0/16\", \"PG3.example\"]}, \
                \"clusters\": [{\"name\": \"a\", \"self_addr\": \"10.0.0.9:1\", \"partner_addrs\": \
                [\"10.0.0.1:1\", \"pg2:1\"]}]}";
    let source = ConfigSource {
        file: Some(folder.write("pg-witness.json", 0o600, json)),
        ..ConfigSource::default()
    };
    let probe = load(&source, &Env::default()).unwrap().probe;
    let may = |name: &str, address: &str| {
        let address = address.parse().unwrap();
        probe.login_to.iter().any(|known| known.is(name, address))
    };
    assert!(may("10.0.0.1", "10.0.0.1") && may("pg1.example", "10.0.0.1"));
    assert!(may("PG2", "10.0.0.2") && may("pg3.example", "192.0.2.3"));
    assert!(may("10.9.1.1", "10.9.1.1") && may("10.9.1.1", "::ffff:10.9.1.1"));
    assert!(!may("10.0.0.9", "10.0.0.9") && !may("evil.example", "192.0.2.1"));
    assert!(!probe.md5);
}

/// The configuration may be a pipe, as `<(...)` names one; nothing waits for a writer
/// that never comes, for a reload is read by the thread that votes.
#[test]
fn a_pipe_is_read_and_one_without_a_writer_is_empty() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let reading = || {
        let (path, (told, heard)) = (path.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || told.send(file::read(&path).unwrap().text));
        heard
    };
    let limit = std::time::Duration::from_secs(10);
    assert_eq!(reading().recv_timeout(limit).unwrap(), "");
    // Both ends, so that opening it to write waits for nobody.
    let mut both = std::fs::File::options();
    let mut writer = both.read(true).write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut writer, b"raft:\n").unwrap();
    let heard = reading();
    while rustix::io::ioctl_fionread(&writer).unwrap() > 0 {
        std::thread::yield_now();
    }
    drop(writer);
    assert_eq!(heard.recv_timeout(limit).unwrap(), "raft:\n");
}
