//! Command lines and what they mean.

use super::*;

fn parsed(argv0: &str, line: &str) -> Result<Invocation, String> {
    let words = line.split_whitespace().map(OsString::from);
    parse(words, OsStr::new(argv0)).map_err(|error| error.to_string())
}

fn source(file: &str, as_controller: bool) -> ConfigSource {
    ConfigSource {
        file: (!file.is_empty()).then(|| file.into()),
        default_file: (!as_controller).then(|| DEFAULT_FILE.into()),
        as_controller,
    }
}

#[test]
fn understands_what_help_teaches() {
    let run = |file| Invocation::Run(source(file, false));
    let check = |file| Invocation::CheckConfig(source(file, false));
    let adopt = |config| Invocation::Adopt {
        cluster: "main".into(),
        config: source(config, false),
    };
    let reset = |config| Invocation::Reset {
        cluster: "main".into(),
        config: source(config, false),
    };
    let as_controller = false;
    for (line, meaning) in [
        ("", run("")),
        ("run", run("")),
        ("run a.yml", run("a.yml")),
        ("run --config a.yml", run("a.yml")),
        ("run --config=a.yml", run("a.yml")),
        ("-c a.yml", run("a.yml")),
        ("-c a.yml run", run("a.yml")),
        ("run -- -a.yml", run("-a.yml")),
        ("check-config a.json", check("a.json")),
        ("check-config", check("")),
        ("adopt --accept-loss main", adopt("")),
        ("adopt main --accept-loss -c a.json", adopt("a.json")),
        ("reset main --config a.json", reset("a.json")),
        ("--help", Invocation::Help { as_controller }),
        ("reset -h", Invocation::Help { as_controller }),
        ("--version", Invocation::Version { as_controller }),
        ("-V", Invocation::Version { as_controller }),
    ] {
        assert_eq!(parsed("/usr/bin/pg-witness", line), Ok(meaning), "{line}");
    }
}

#[test]
fn a_state_is_touched_only_for_a_cluster_that_was_configured() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().display().to_string();
    let env = Env::default().with("HOME", &home);
    let config = config::load(&ConfigSource::default(), &env).unwrap();
    let refused = with_cluster(&config, "orders", async |_, _| Ok(()));
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("--config FILE"), "{message}");
    assert!(with_cluster(&config, config::DEMO_CLUSTER, async |_, _| Ok(())).is_ok());
}

#[test]
fn refuses_with_a_remedy() {
    for (line, message) in [
        (
            "chek-config",
            "no command \"chek-config\"; did you mean check-config? (see --help)",
        ),
        (
            "patroni.yml",
            "no command \"patroni.yml\"; if it is a configuration: pg-witness run patroni.yml \
             (see --help)",
        ),
        (
            "serve",
            "no command \"serve\"; there are run, check-config, adopt, reset, status, \
             topology, members, health-check, alive, diagnose, raft (see --help)",
        ),
        ("run a b", "unexpected argument \"b\" (see --help)"),
        ("run --verbose", "invalid option '--verbose' (see --help)"),
        (
            "run --config",
            "missing argument for option '--config' (see --help)",
        ),
        (
            "run a.yml -c b.yml",
            "the configuration is named twice, by --config and without (see --help)",
        ),
        ("-c a -c b", "invalid option '-c' (see --help)"),
        (
            "adopt main",
            "adopt gives up every write that only the lost state held: say so with --accept-loss \
             (see --help)",
        ),
        (
            "adopt --accept-loss",
            "name the cluster, as in: pg-witness adopt --accept-loss CLUSTER (see --help)",
        ),
        (
            "reset",
            "name the cluster, as in: pg-witness reset CLUSTER (see --help)",
        ),
        (
            "reset main --accept-loss",
            "--accept-loss belongs to adopt (see --help)",
        ),
    ] {
        assert_eq!(parsed("pg-witness", line), Err(message.into()), "{line}");
    }
}

#[test]
fn takes_the_controllers_arguments_under_its_name() {
    let as_controller = true;
    for (line, meaning) in [
        ("", Ok(Invocation::Run(source("", true)))),
        (
            "patroni.yml",
            Ok(Invocation::Run(source("patroni.yml", true))),
        ),
        // There `run` is a file.
        ("run", Ok(Invocation::Run(source("run", true)))),
        ("-h", Ok(Invocation::Help { as_controller })),
        ("--version", Ok(Invocation::Version { as_controller })),
        ("a b", Err("unexpected argument \"b\" (see --help)".into())),
        (
            "--config a",
            Err("invalid option '--config' (see --help)".into()),
        ),
    ] {
        let argv0 = "/usr/local/bin/patroni_raft_controller";
        assert_eq!(parsed(argv0, line), meaning, "{line}");
    }
}

#[test]
fn the_help_fits_a_terminal_and_names_every_command_and_exit_code() {
    let help = help::text(false);
    for word in COMMANDS.iter().chain(&["--config", "--accept-loss"]) {
        assert!(help.contains(word), "{word}");
    }
    for text in [help, help::text(true)] {
        for code in [help::EXIT_FAILED, help::EXIT_USAGE, help::EXIT_CONFIG] {
            assert!(text.contains(&format!(" {code} ")), "{code}");
        }
        assert!(text.lines().all(|line| line.len() <= 90));
    }
}
