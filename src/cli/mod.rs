//! The command line: parsed here, carried out in one file per command. Under the
//! name `patroni_raft_controller` the arguments of that program are taken, so
//! that a link in its place is a replacement.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser};

use self::look::{LookArguments, View};
#[cfg(feature = "appliance")]
use crate::appliance;
use crate::config::{
    self, ClusterConfig, Config, ConfigError, ConfigSource, DEFAULT_FILE, Env, Source, nearest,
    shown,
};
use crate::disk::Worker;
use crate::logging;
use crate::reactor;

pub mod adopt;
pub mod check_config;
pub mod diagnose;
pub mod help;
pub mod look;
pub mod notify;
pub mod raft;
pub mod reset;
pub mod run;
mod signals;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Serve the clusters until told to stop.
    Run(ConfigSource),
    /// Print the configuration in effect, or what is wrong with it.
    CheckConfig(ConfigSource),
    /// Make a witness that lost its state a voter again (S7).
    Adopt {
        /// The cluster's name.
        cluster: String,
        /// Where the configuration is.
        config: ConfigSource,
    },
    /// Set a cluster's state aside and begin anew.
    Reset {
        /// The cluster's name.
        cluster: String,
        /// Where the configuration is.
        config: ConfigSource,
    },
    /// Ask any node of a Raft group, Python's or ours.
    Raft(raft::Order),
    /// Print the help of that.
    RaftHelp,
    /// Print what the running witness knows.
    Look(View, LookArguments),
    /// Write a bundle for a support case.
    Diagnose {
        /// Where the witness is asked.
        look: LookArguments,
        /// Where the bundle goes.
        file: Option<PathBuf>,
    },
    /// Print the version.
    Version {
        /// Whether under the controller's name.
        as_controller: bool,
    },
    /// Print the help.
    Help {
        /// Whether under the controller's name.
        as_controller: bool,
    },
}

/// A command line that asks for nothing we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (see --help)", self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(shown(&error.to_string()))
    }
}

/// Why a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The configuration is refused.
    Config(ConfigError),
    /// It was tried and did not work; said with its remedy.
    Failed(String),
}

impl Failure {
    /// The exit code, as [`help`] lists it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => help::EXIT_CONFIG,
            Self::Failed(_) => help::EXIT_FAILED,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// The name under which we stand in for Patroni's controller.
const CONTROLLER: &str = "patroni_raft_controller";

/// The commands, for parsing and for "did you mean".
const COMMANDS: [&str; 11] = [
    "run",
    "check-config",
    "adopt",
    "reset",
    "status",
    "topology",
    "members",
    "health-check",
    "alive",
    "diagnose",
    "raft",
];

/// Parses and carries out a command line; `argv0` is the name we were called by.
pub fn start(args: impl Iterator<Item = OsString>, argv0: &OsStr) -> ExitCode {
    #[cfg(feature = "appliance")]
    if appliance::is_called(argv0) {
        // The kernel hands over words of its command line that are not for us.
        appliance::main();
    }
    let result = match parse(args, argv0) {
        Ok(invocation) => carry_out(invocation, &environment()),
        Err(error) => {
            complain(&error);
            return ExitCode::from(help::EXIT_USAGE);
        }
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The environment. PID 1 is that of a container, where no demo runs.
fn environment() -> Env {
    let env = Env::of_process();
    match std::process::id() {
        1 => env.with(config::DEMO, "off"),
        _ => env,
    }
}

fn carry_out(invocation: Invocation, env: &Env) -> Result<ExitCode, Failure> {
    match invocation {
        Invocation::Look(view, look) => return look::main(view, &look, env),
        Invocation::Diagnose { look, file } => diagnose::main(&look, file.as_deref(), env),
        Invocation::Run(source) => run::main(configured(&source, env)?, &source),
        Invocation::CheckConfig(source) => {
            print(&check_config::report(&config::load(&source, env)?));
            Ok(())
        }
        Invocation::Adopt { cluster, config } => adopt::main(&configured(&config, env)?, &cluster),
        Invocation::Reset { cluster, config } => reset::main(&configured(&config, env)?, &cluster),
        Invocation::Raft(order) => raft::main(&order, env),
        Invocation::RaftHelp => {
            print(help::RAFT);
            Ok(())
        }
        Invocation::Version { as_controller } => {
            print(&help::version(as_controller));
            Ok(())
        }
        Invocation::Help { as_controller } => {
            print(help::text(as_controller));
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Loads the configuration, starts logging and says what is odd.
fn configured(source: &ConfigSource, env: &Env) -> Result<Config, Failure> {
    let config = config::load(source, env)?;
    logging::start(config.log.level);
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    Ok(config)
}

/// The configuration of a command that can do without one. None if nobody named it
/// and it cannot be used: said if it is the package's.
fn configured_if_possible(source: &ConfigSource, env: &Env) -> Result<Option<Config>, Failure> {
    match config::load(source, env) {
        Ok(config) => Ok(Some(config)),
        Err(error) if source.file.is_some() => Err(error.into()),
        Err(error) => {
            let default_file = source.default_file.as_deref();
            if default_file.is_some_and(|file| std::fs::symlink_metadata(file).is_ok()) {
                complain(&format_args!("{error}; going on without it"));
            }
            Ok(None)
        }
    }
}

/// Runs `work` on the state of the cluster `name`, whose witness must not run.
fn with_cluster<T>(
    config: &Config,
    name: &str,
    work: impl AsyncFnOnce(&ClusterConfig, &Worker) -> Result<T, String>,
) -> Result<T, Failure> {
    if config.source == Source::Demo && name != config::DEMO_CLUSTER {
        return Err(Failure::Failed(format!(
            "no configuration is named, and there is none at {DEFAULT_FILE}: say where cluster \
             {0} is configured, with --config FILE",
            shown(name)
        )));
    }
    let Some(cluster) = config.clusters.iter().find(|cluster| cluster.name == name) else {
        let names: Vec<&str> = config.clusters.iter().map(|c| c.name.as_str()).collect();
        let nearest = nearest(name, &names).unwrap_or(names.first().copied().unwrap_or_default());
        return Err(Failure::Failed(format!(
            "there is no cluster {} in {}; is it {nearest}?",
            shown(name),
            config.source
        )));
    };
    let worker = Worker::start()
        .map_err(|error| Failure::Failed(format!("cannot start the disk's thread: {error}")))?;
    reactor::block_on(work(cluster, &worker)).map_err(Failure::Failed)
}

/// Parses a command line without its first word, which is `argv0`.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    argv0: &OsStr,
) -> Result<Invocation, UsageError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let name = Path::new(argv0).file_name().unwrap_or(argv0);
    match args.split_first() {
        _ if name == CONTROLLER => parse_controller(&mut Parser::from_args(args)),
        Some((word, rest)) if word == "raft" => raft::parse(&mut Parser::from_args(rest)),
        _ => parse_witness(&mut Parser::from_args(args)),
    }
}

/// `patroni_raft_controller [-h] [--version] [configfile]` (Patroni 4.1.5).
fn parse_controller(args: &mut Parser) -> Result<Invocation, UsageError> {
    let as_controller = true;
    let mut file = None;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Invocation::Help { as_controller }),
            Arg::Long("version") => return Ok(Invocation::Version { as_controller }),
            Arg::Value(value) if file.is_none() => file = Some(value),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Invocation::Run(ConfigSource {
        // An empty argument is none, as in Python.
        file: file.filter(|file| !file.is_empty()).map(Into::into),
        default_file: None,
        as_controller,
    }))
}

/// The words of a command line, before it is known what they mean together.
#[derive(Default)]
struct Words {
    config: Option<OsString>,
    accept_loss: bool,
    look: LookArguments,
    values: Vec<OsString>,
}

/// `pg-witness [COMMAND] [OPTIONS] [WORD]`, in any order.
fn parse_witness(args: &mut Parser) -> Result<Invocation, UsageError> {
    let as_controller = false;
    let mut words = Words::default();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Invocation::Help { as_controller }),
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Invocation::Version { as_controller });
            }
            Arg::Short('c') | Arg::Long("config") if words.config.is_none() => {
                words.config = Some(args.value()?);
            }
            Arg::Long("accept-loss") => words.accept_loss = true,
            Arg::Long("json") => words.look.json = true,
            Arg::Long("watch") => words.look.watch = true,
            Arg::Long("cluster") if words.look.cluster.is_none() => {
                words.look.cluster = Some(utf8(args.value()?, "--cluster")?);
            }
            Arg::Long("url") if words.look.url.is_none() => {
                words.look.url = Some(utf8(args.value()?, "--url")?);
            }
            Arg::Long("token-file") if words.look.token_file.is_none() => {
                words.look.token_file = Some(args.value()?.into());
            }
            Arg::Value(value) if words.values.len() < 2 => words.values.push(value),
            other => return Err(other.unexpected().into()),
        }
    }
    let mut values = std::mem::take(&mut words.values).into_iter();
    let command = values.next().unwrap_or_else(|| "run".into());
    let value = values.next();
    let command = command.to_string_lossy();
    if words.accept_loss && command != "adopt" {
        return Err(UsageError("--accept-loss belongs to adopt".into()));
    }
    let view = match command.as_ref() {
        "status" => Some(View::Status),
        "topology" => Some(View::Topology),
        "members" => Some(View::Members),
        "health-check" => Some(View::HealthCheck),
        "alive" => Some(View::Alive),
        _ => None,
    };
    if view.is_none() && command != "diagnose" && words.look != LookArguments::default() {
        return Err(UsageError(
            "--json, --watch, --cluster, --url and --token-file belong to the commands that ask \
             the running witness, such as status"
                .into(),
        ));
    }
    if let Some(view) = view {
        return Ok(Invocation::Look(view, words.into_look(value)?));
    }
    match command.as_ref() {
        "run" => words.file(value).map(Invocation::Run),
        "diagnose" => Ok(Invocation::Diagnose {
            look: words.into_look(None)?,
            file: value.map(Into::into),
        }),
        "check-config" => words.file(value).map(Invocation::CheckConfig),
        "adopt" if !words.accept_loss => Err(UsageError(
            "adopt gives up every write that only the lost state held: say so with --accept-loss"
                .into(),
        )),
        "adopt" => Ok(Invocation::Adopt {
            cluster: cluster(value, "adopt --accept-loss")?,
            config: words.file(None)?,
        }),
        "reset" => Ok(Invocation::Reset {
            cluster: cluster(value, "reset")?,
            config: words.file(None)?,
        }),
        other => Err(unknown(other)),
    }
}

impl Words {
    fn into_look(mut self, value: Option<OsString>) -> Result<LookArguments, UsageError> {
        let look = std::mem::take(&mut self.look);
        Ok(LookArguments {
            config: self.file(value)?,
            ..look
        })
    }

    /// The configuration, named as the command's word or by --config.
    fn file(self, value: Option<OsString>) -> Result<ConfigSource, UsageError> {
        if self.config.is_some() && value.is_some() {
            return Err(UsageError(
                "the configuration is named twice, by --config and without".into(),
            ));
        }
        let file = self.config.or(value);
        Ok(ConfigSource::named(file.map(Into::into)))
    }
}

fn utf8(value: OsString, what: &str) -> Result<String, UsageError> {
    value
        .into_string()
        .map_err(|_| UsageError(format!("what follows {what} is not UTF-8")))
}

fn cluster(value: Option<OsString>, command: &str) -> Result<String, UsageError> {
    let value = value.ok_or_else(|| {
        UsageError(format!(
            "name the cluster, as in: pg-witness {command} CLUSTER"
        ))
    })?;
    value
        .into_string()
        .map_err(|_| UsageError("the cluster's name is not UTF-8".into()))
}

fn unknown(command: &str) -> UsageError {
    let word = shown(command);
    UsageError(if let Some(meant) = nearest(command, &COMMANDS) {
        format!("no command \"{word}\"; did you mean {meant}?")
    } else if Path::new(command).extension().is_some() || command.contains('/') {
        format!("no command \"{word}\"; if it is a configuration: pg-witness run {word}")
    } else {
        format!("no command \"{word}\"; there are {}", COMMANDS.join(", "))
    })
}

/// To standard output. That a reader went away is no reason to fail.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// One line to standard error.
fn complain(error: &dyn fmt::Display) {
    let _ = writeln!(std::io::stderr(), "pg-witness: {error}");
}

#[cfg(test)]
mod tests;
