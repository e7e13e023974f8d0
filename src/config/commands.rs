//! Commands for an operator, which work when they are pasted. How this witness was
//! configured decides what a command needs: a file that is no default is named,
//! variables are set again, a service is stopped by its unit, and a board has no
//! shell at all. Nobody else writes such a command.

use std::path::Path;

use super::env::Env;
use super::variables::ON_A_BOARD;
use super::{ClusterConfig, DEFAULT_FILE, Source};
use crate::address::Address;
use crate::text::shell_word;

/// The variables that decide which cluster and which folder a command means. None
/// of them is a secret.
const DECISIVE: [&str; 4] = [
    "PATRONI_SCOPE",
    "PATRONI_RAFT_SELF_ADDR",
    "PATRONI_RAFT_PARTNER_ADDRS",
    "PATRONI_RAFT_DATA_DIR",
];

/// The process that was configured, as far as a command for it depends on it.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// How the program is called from a shell.
    pub program: String,
    /// The systemd unit whose main process this is.
    pub unit: Option<String>,
}

impl Process {
    /// This one.
    pub fn this(env: &Env) -> Self {
        let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let exec_pid = env.text("SYSTEMD_EXEC_PID").ok().flatten();
        // Inherited by whatever a service starts; ours only if it names us.
        let is_service = exec_pid == Some(std::process::id().to_string().as_str());
        Self {
            program: program(std::env::current_exe().ok().as_deref(), env),
            unit: unit(&cgroup).filter(|_| is_service).map(str::to_owned),
        }
    }
}

/// How the program is called where it is installed.
const NAME: &str = env!("CARGO_PKG_NAME");

/// The program's name where a shell finds it, else its path.
fn program(exe: Option<&Path>, env: &Env) -> String {
    let Some(exe) = exe.filter(|exe| exe.is_absolute()) else {
        return NAME.into();
    };
    let folders = env.path("PATH").map(std::env::split_paths);
    let found = folders.is_some_and(|mut folders| {
        folders.any(|folder| exe.parent() == Some(&folder)) && exe.ends_with(NAME)
    });
    match found {
        true => NAME.into(),
        false => shell_word(&exe.display().to_string()),
    }
}

/// The service in the last component of a control group's path.
fn unit(cgroup: &str) -> Option<&str> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let last = path.trim_end().rsplit('/').next()?;
    last.strip_suffix(".service")
}

/// What to do: in words that end where the command begins, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemedyStep {
    /// Such as `stop this witness and run`.
    pub how: &'static str,
    /// The command line.
    pub command: Option<String>,
}

/// The commands for one cluster of this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    cluster: String,
    self_addr: String,
    has_password: bool,
    on_a_board: bool,
    /// Whether all of the configuration is in `PATRONI_CONFIGURATION`, which may hold
    /// secrets: it is never repeated.
    by_variable: bool,
    unit: Option<String>,
    program: String,
    /// `cd FOLDER && NAME=VALUE ... `, or nothing.
    before: String,
    /// ` --config FILE`, or nothing.
    config: String,
}

impl Commands {
    /// Those for `cluster`, which `source` configured together with `env`.
    pub fn new(cluster: &ClusterConfig, source: &Source, env: &Env, process: &Process) -> Self {
        let on_a_board = env.path(ON_A_BOARD).is_some();
        let set: Vec<String> = DECISIVE
            .into_iter()
            .filter_map(|name| {
                let value = env.text(name).ok().flatten()?;
                Some(format!("{name}={} ", shell_word(value)))
            })
            .collect();
        let (set, file) = match source {
            Source::Own(file) | Source::Patroni(file) => (set, Some(file)),
            Source::Environment => (set, None),
            Source::PatroniVariable | Source::Demo => (Vec::new(), None),
        };
        let named = file.filter(|file| !set.is_empty() || *file != Path::new(DEFAULT_FILE));
        let config = match named {
            // Where the card is mounted then is not where the board mounts it.
            Some(file) if on_a_board => file.file_name().map(|name| Path::new("/mnt").join(name)),
            Some(file) => std::path::absolute(file).ok(),
            None => None,
        };
        let folder = match std::env::current_dir() {
            Ok(folder) if cluster.data_dir.is_relative() => {
                format!("cd {} && ", shell_word(&folder.display().to_string()))
            }
            _ => String::new(),
        };
        let (program, board) = match on_a_board {
            true => (NAME, format!("{ON_A_BOARD}=1 ")),
            false => (process.program.as_str(), String::new()),
        };
        Self {
            cluster: shell_word(&cluster.name),
            self_addr: shell_word(cluster.self_addr.as_str()),
            has_password: cluster.password.is_some(),
            on_a_board,
            by_variable: *source == Source::PatroniVariable,
            unit: process.unit.as_deref().map(shell_word),
            program: program.into(),
            before: format!("{folder}{board}{}", set.concat()),
            config: config.map_or_else(String::new, |file| {
                format!(" --config {}", shell_word(&file.display().to_string()))
            }),
        }
    }

    /// Those of a program in the path with the package's file.
    #[cfg(test)]
    pub fn of_a_test(cluster: &str, self_addr: &str) -> Self {
        Self {
            cluster: cluster.into(),
            self_addr: self_addr.into(),
            program: NAME.into(),
            ..Self::default()
        }
    }

    /// Lets this witness vote although its state was lost.
    pub fn adopt(&self) -> RemedyStep {
        self.while_stopped("adopt --accept-loss")
    }

    /// Has this witness begin anew; its state is kept aside.
    pub fn reset(&self) -> RemedyStep {
        if self.on_a_board {
            return RemedyStep {
                how: "write the image to this board's card again, with the same pg-witness.json",
                command: None,
            };
        }
        self.while_stopped("reset")
    }

    /// Has the Raft group of `member` take this witness in.
    pub fn add_to(&self, member: &str) -> RemedyStep {
        self.raft("add", member, &self.self_addr)
    }

    /// Has the Raft group of `member` give up another member for good.
    pub fn remove_from(&self, member: &str, other: &str) -> RemedyStep {
        self.raft("remove", member, &shell_word(other))
    }

    /// Has the Raft group of `member` give up this witness.
    pub fn remove_this_from(&self, member: &str) -> RemedyStep {
        self.raft("remove", member, &self.self_addr)
    }

    /// Has the Raft group replace `before` by `after`, this witness apart. None where
    /// one command for each does not do: nothing changes, more than one member goes
    /// or comes, or nobody stays who could be asked.
    pub fn replace(&self, before: &[Address], after: &[Address]) -> Option<RemedyStep> {
        let mut staying = before.iter().filter(|member| after.contains(member));
        let mut going = before.iter().filter(|member| !after.contains(member));
        let mut coming = after.iter().filter(|member| !before.contains(member));
        let asked = staying.next()?.as_str();
        let (gone, new) = (going.next(), coming.next());
        if going.next().is_some() || coming.next().is_some() {
            return None;
        }
        // First the one that may be dead: a majority is then one of fewer.
        let remove = gone.map(|gone| self.remove_from(asked, gone.as_str()));
        let add = new.map(|new| self.raft("add", asked, &shell_word(new.as_str())));
        match (remove, add) {
            (Some(remove), Some(add)) => Some(RemedyStep {
                how: remove.how,
                command: remove
                    .command
                    .zip(add.command)
                    .map(|(remove, add)| format!("{remove} && {add}")),
            }),
            (remove, add) => remove.or(add),
        }
    }

    fn raft(&self, word: &str, member: &str, about: &str) -> RemedyStep {
        let program = &self.program;
        let (how, config) = match self.on_a_board {
            true if self.has_password => ("run on another host", " --password-file FILE"),
            true => ("run on another host", ""),
            false => ("run", self.config.as_str()),
        };
        let member = shell_word(member);
        RemedyStep {
            how,
            command: Some(format!("{program} raft {word} {member} {about}{config}")),
        }
    }

    fn while_stopped(&self, command: &str) -> RemedyStep {
        let Self {
            cluster,
            program,
            before,
            config,
            ..
        } = self;
        let command = format!("{before}{program} {command} {cluster}{config}");
        let (how, command) = match &self.unit {
            _ if self.on_a_board => (
                "turn this board off, put its card into a Linux host that has pg-witness, and \
                 run there as root",
                format!(
                    "mkdir -p /data && mount LABEL=pgw-data /data && mount LABEL=PGWITNESS /mnt \
                     && {command}; umount /mnt /data"
                ),
            ),
            _ if self.by_variable => (
                "stop this witness and run, with its PATRONI_CONFIGURATION in the environment",
                command,
            ),
            Some(unit) => (
                "run",
                format!("systemctl stop {unit} && {command}; systemctl start {unit}"),
            ),
            None => ("stop this witness and run", command),
        };
        RemedyStep {
            how,
            command: Some(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Folder;
    use crate::config::{ConfigSource, load};

    const RAFT: &str = "self_addr: 10.0.0.9:2222, partner_addrs: ['10.0.0.1:2222']";

    fn process(unit: Option<&str>) -> Process {
        Process {
            program: "pg-witness".into(),
            unit: unit.map(Into::into),
        }
    }

    fn configured(file: &Path, env: &Env) -> crate::config::Config {
        let source = ConfigSource {
            file: Some(file.into()),
            ..ConfigSource::default()
        };
        load(&source, env).unwrap()
    }

    fn commands(file: &Path, env: &Env, unit: Option<&str>) -> Commands {
        let config = configured(file, env);
        Commands::new(&config.clusters[0], &config.source, env, &process(unit))
    }

    fn line(step: RemedyStep) -> String {
        format!("{}: {}", step.how, step.command.unwrap_or_default())
    }

    #[test]
    fn a_command_names_what_a_shell_elsewhere_lacks() {
        let folder = Folder::new();
        let text = format!("scope: orders\nraft: {{{RAFT}, data_dir: /d}}");
        let file = folder.write("w 2.yml", 0o600, &text);
        let name = format!("'{}'", file.display());
        let none = Env::default();
        assert_eq!(
            line(commands(&file, &none, None).adopt()),
            format!(
                "stop this witness and run: pg-witness adopt --accept-loss orders --config {name}"
            )
        );
        assert_eq!(
            line(commands(&file, &none, None).add_to("10.0.0.1:2222")),
            format!("run: pg-witness raft add 10.0.0.1:2222 10.0.0.9:2222 --config {name}")
        );
        let env = none
            .with("PATRONI_RAFT_DATA_DIR", "/e")
            .with("PATRONI_RAFT_PASSWORD", "hunter2");
        assert_eq!(
            line(commands(&file, &env, Some("pg-witness@2")).reset()),
            format!(
                "run: systemctl stop pg-witness@2 && PATRONI_RAFT_DATA_DIR=/e pg-witness reset \
                 orders --config {name}; systemctl start pg-witness@2"
            )
        );
    }

    #[test]
    fn the_packages_file_is_not_named_and_a_relative_folder_is_entered() {
        let folder = Folder::new();
        let text = format!("scope: it's\nraft: {{{RAFT}, data_dir: raft}}");
        let file = folder.write("patroni.yml", 0o600, &text);
        let env = Env::default();
        let config = configured(&file, &env);
        let source = Source::Patroni(DEFAULT_FILE.into());
        let unit = process(Some("pg-witness"));
        let commands = Commands::new(&config.clusters[0], &source, &env, &unit);
        let here = shell_word(&std::env::current_dir().unwrap().display().to_string());
        assert_eq!(
            line(commands.reset()),
            format!(
                "run: systemctl stop pg-witness && cd {here} && pg-witness reset 'it'\\''s'; \
                 systemctl start pg-witness"
            )
        );
    }

    #[test]
    fn a_board_has_no_shell() {
        let folder = Folder::new();
        let json = "{\"clusters\": [{\"name\": \"main\", \"self_addr\": \"10.0.0.9:2222\", \
                    \"partner_addrs\": [\"10.0.0.1:2222\"], \"password\": \"hunter2\"}]}";
        let file = folder.write("pg-witness.json", 0o600, json);
        let commands = commands(&file, &Env::default().with(ON_A_BOARD, "1"), None);
        assert_eq!(commands.reset().command, None);
        let adopt = line(commands.adopt());
        let command = "PG_WITNESS_APPLIANCE=1 pg-witness adopt --accept-loss main --config \
                       /mnt/pg-witness.json;";
        assert!(adopt.contains(command), "{adopt}");
        assert_eq!(
            line(commands.add_to("10.0.0.1:2222")),
            "run on another host: pg-witness raft add 10.0.0.1:2222 10.0.0.9:2222 \
             --password-file FILE"
        );
    }

    #[test]
    fn members_are_replaced_where_a_command_for_each_does() {
        let addresses = |names: &str| -> Vec<Address> {
            let names = names.split_whitespace();
            names
                .map(|name| format!("{name}:2222").parse().unwrap())
                .collect()
        };
        let commands = Commands::of_a_test("orders", "W:2222");
        for (before, after, wanted) in [
            ("A B", "A B", ""),
            ("A B", "A B C", "add A C"),
            ("A B", "B", "remove B A"),
            ("A B", "C A", "remove A B && add A C"),
            ("A B", "C D", ""),
            ("A B C", "A", ""),
            ("A", "A B C", ""),
            ("", "A", ""),
        ] {
            let step = commands.replace(&addresses(before), &addresses(after));
            let line = step.and_then(|step| step.command).unwrap_or_default();
            let words = line.replace("pg-witness raft ", "").replace(":2222", "");
            assert_eq!(words, wanted, "{before} to {after}");
        }
    }

    /// Nobody else writes a command: it would lack what this configuration needs.
    #[test]
    fn no_other_file_names_a_command_to_run() {
        let mut folders = vec![std::path::PathBuf::from("src")];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                // The help names all commands, and what is said of a command line
                // that was typed repeats it.
                let exempt = [
                    "config/commands.rs",
                    "cli/help.rs",
                    "cli/mod.rs",
                    "tests.rs",
                ];
                let rust = path.extension().is_some_and(|end| end == "rs");
                if !rust || exempt.iter().any(|end| path.ends_with(end)) {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let (text, _) = text
                    .split_once("#[cfg(test)]\nmod tests {")
                    .unwrap_or((&text, ""));
                let code = text
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"));
                for line in code {
                    seen += 1;
                    for word in ["raft", "reset", "adopt", "run", "status", "check-config"] {
                        let command = format!("pg-witness {word}");
                        assert!(!line.contains(&command), "{}: {line}", path.display());
                    }
                }
            }
        }
        assert!(seen > 10_000, "{seen}");
    }

    #[test]
    fn a_unit_is_known_by_its_control_group_and_a_program_by_its_folder() {
        assert_eq!(
            unit("0::/system.slice/pg-witness.service\n"),
            Some("pg-witness")
        );
        assert_eq!(unit("0::/system.slice/a/b@c.service\n"), Some("b@c"));
        assert_eq!(unit("0::/user.slice/session-3.scope\n"), None);
        assert_eq!(unit(""), None);
        let env = Env::default().with("PATH", "/usr/local/bin:/usr/bin");
        let called = |exe: &str| program(Some(Path::new(exe)), &env);
        assert_eq!(called("/usr/bin/pg-witness"), "pg-witness");
        assert_eq!(
            called("/srv/my tools/pg-witness"),
            "'/srv/my tools/pg-witness'"
        );
        assert_eq!(called("/usr/bin/pg-witness-0.2"), "/usr/bin/pg-witness-0.2");
    }
}
