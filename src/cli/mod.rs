//! The command line: what a person types, and the short commands behind it.
//!
//! `run` is the agent itself and lives in [`crate::node`]; everything here ends by itself. The
//! commands that look at tasks ask a running agent through its control socket, and fall back to
//! what is stored when there is none.

mod check;
mod failure;
mod image;
mod join;
mod log;
mod show;
mod token;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use argh::FromArgs;

pub use self::failure::Failure;
use crate::{
    config::Config,
    model::Availability,
    node::{self, RunError},
};

/// Where the configuration is when nobody says otherwise; may be absent.
const DEFAULT_CONFIG: &str = "/etc/edgeagent/agent.json";

/// edgeagent: a Docker Swarm worker in one small static binary.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 refused by the manager or the token,
/// 4 sealed state refused (damaged, or of another machine), 5 not joined.
#[derive(FromArgs, Debug)]
struct Arguments {
    /// configuration file (default /etc/edgeagent/agent.json)
    #[argh(option)]
    config: Option<PathBuf>,

    /// error, warn, info, debug (default info)
    #[argh(option, from_str_fn(level))]
    log_level: Option<::log::LevelFilter>,

    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum Command {
    Join(Join),
    Run(Run),
    Leave(Leave),
    Token(Token),
    Status(Status),
    Ps(Ps),
    Logs(Logs),
    Image(Image),
    Check(Check),
    Version(Version),
}

/// join a swarm as a worker
#[expect(rustdoc::broken_intra_doc_links, reason = "argh prints it as it is")]
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "join")]
struct Join {
    /// join token, SWMTKN-1-…; other users of this device see it in the process list: prefer
    /// --token-file
    #[argh(option)]
    token: Option<String>,

    /// file with the join token, - for standard input
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// burn the token once there is a certificate: after that has expired, this node can not join
    /// again by itself
    #[argh(switch)]
    forget_token: bool,

    /// active, pause or drain (default active)
    #[argh(option, from_str_fn(availability), default = "Availability::Active")]
    availability: Availability,

    /// manager addresses, host[:port], port 2377 by default
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
}

/// run the agent; a node that is in no swarm joins as its provisioning file says, or waits for join
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "run")]
struct Run {}

/// stop the tasks of this node and forget its identity
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "leave")]
struct Leave {}

/// manage the join token that this node keeps
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "token")]
struct Token {
    #[argh(subcommand)]
    command: TokenCommand,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum TokenCommand {
    Set(TokenSet),
}

/// keep another join token, for joining again when the certificate has expired
#[expect(rustdoc::broken_intra_doc_links, reason = "argh prints it as it is")]
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "set")]
struct TokenSet {
    /// join token, SWMTKN-1-…; other users of this device see it in the process list: prefer
    /// --token-file
    #[argh(option)]
    token: Option<String>,

    /// file with the join token, - for standard input
    #[argh(option)]
    token_file: Option<PathBuf>,

    /// also when the token names another root CA than the one that this node trusts
    #[argh(switch)]
    new_root: bool,
}

/// show the state of this node on one screen
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "status")]
struct Status {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// list the tasks of this node
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "ps")]
struct Ps {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// show the logs of a task
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "logs")]
struct Logs {
    /// go on with new lines
    #[argh(switch, short = 'f')]
    follow: bool,

    /// only the last so many lines
    #[argh(option)]
    tail: Option<u64>,

    /// show timestamps
    #[argh(switch, short = 't')]
    timestamps: bool,

    /// task id, or the beginning of one
    #[argh(positional, arg_name = "TASK")]
    task: String,
}

/// manage the images of this node
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "image")]
struct Image {
    #[argh(subcommand)]
    command: ImageCommand,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum ImageCommand {
    Ls(ImageLs),
    Pull(ImagePull),
    Load(ImageLoad),
    Rm(ImageRm),
    Prune(ImagePrune),
}

/// list images
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "ls")]
struct ImageLs {
    /// print JSON
    #[argh(switch)]
    json: bool,

    /// read every file of every layer, and find what has rotted
    #[argh(switch)]
    verify: bool,
}

/// pull an image from its registry
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "pull")]
struct ImagePull {
    /// reference, such as nginx:1.27 or registry:5000/team/app@sha256:…
    #[argh(positional, arg_name = "IMAGE")]
    image: String,
}

/// load images from a docker-archive, an OCI archive or the folder of an OCI layout
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "load")]
struct ImageLoad {
    /// the archive, - for standard input (default -)
    #[argh(option, short = 'i', default = "PathBuf::from(\"-\")")]
    input: PathBuf,
}

/// remove images
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "rm")]
struct ImageRm {
    /// references
    #[argh(positional, arg_name = "IMAGE")]
    images: Vec<String>,
}

/// remove the images that no task uses
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "prune")]
struct ImagePrune {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// tell what the kernel and the system offer, what each gap costs and what helps; exit code 1
/// when no task can run here
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "check")]
struct Check {
    /// print JSON
    #[argh(switch)]
    json: bool,

    /// managers to reach for, host[:port]
    #[argh(positional, arg_name = "ADDR")]
    addresses: Vec<String>,
}

/// print the version
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "version")]
struct Version {}

fn level(text: &str) -> Result<::log::LevelFilter, String> {
    match text {
        "error" => Ok(::log::LevelFilter::Error),
        "warn" => Ok(::log::LevelFilter::Warn),
        "info" => Ok(::log::LevelFilter::Info),
        "debug" => Ok(::log::LevelFilter::Debug),
        _ => Err(format!("log level {text:?} is none of error, warn, info, debug")),
    }
}

fn availability(text: &str) -> Result<Availability, String> {
    Availability::from_name(text)
        .ok_or_else(|| format!("availability {text:?} is none of active, pause, drain"))
}

/// The main function of a fetch child, with the log of the agent that started it: what it warns of
/// would be lost otherwise.
#[must_use]
pub fn fetch_main() -> ExitCode {
    log::init(::log::LevelFilter::Warn);
    crate::image::fetch_main()
}

/// Runs the command named by the process's arguments and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let texts: Result<Vec<String>, _> =
        std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect();
    let Ok(texts) = texts else {
        return Failure::usage("an argument is not valid UTF-8").report();
    };
    // The kernel's copy of the arguments is out of reach; ours may hold a token.
    let texts = zeroize::Zeroizing::new(texts);
    let parsed = {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Arguments::from_args(&["edgeagent"], &texts)
    };
    drop(texts);
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(exit) => return early(&exit),
    };
    match dispatch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Help goes to standard output with 0, a usage error to standard error with 2.
fn early(exit: &argh::EarlyExit) -> ExitCode {
    let text = exit.output.trim_end();
    match exit.status {
        Ok(()) => match print(format_args!("{text}\n")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        },
        Err(()) => Failure::usage(text).report(),
    }
}

fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    if matches!(arguments.command, Command::Version(_)) {
        return print(format_args!("edgeagent {}\n", env!("CARGO_PKG_VERSION")));
    }
    let required = arguments.config.is_some();
    let path = arguments.config.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    let config = Config::load(&path, required)?;
    let default = if config.debug { ::log::LevelFilter::Debug } else { ::log::LevelFilter::Info };
    log::init(arguments.log_level.unwrap_or(default));

    match &arguments.command {
        // These see the token, or what is sealed.
        Command::Join(_)
        | Command::Token(_)
        | Command::Run(_)
        | Command::Leave(_)
        | Command::Status(_)
        | Command::Ps(_) => node::keep_private(),
        // `image load` lets its child open our standard input, which this would forbid.
        Command::Logs(_) | Command::Image(_) | Command::Check(_) | Command::Version(_) => {}
    }
    match arguments.command {
        Command::Join(join) => join::join(&config, join),
        Command::Run(Run {}) => node::run(config).map_err(|error: RunError| error.into()),
        Command::Leave(Leave {}) => join::leave(&config),
        Command::Token(Token { command: TokenCommand::Set(wish) }) => token::set(&config, wish),
        Command::Status(Status { json }) => show::status(&config, json),
        Command::Ps(Ps { json }) => show::ps(&config, json),
        Command::Logs(logs) => show::logs(&config, &logs),
        Command::Image(Image { command }) => image::image(&config, command),
        Command::Check(arguments) => check::check(&config, &arguments),
        Command::Version(Version {}) => Ok(()),
    }
}

/// Text that managers, registries and images may have written, made harmless for a terminal: what
/// is no printing character becomes `?`.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Prints to standard output; a reader that went away ends the command quietly.
fn print(text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed("cannot write to standard output", &error)),
    }
}

fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed("cannot print as JSON", &error))?;
    print(format_args!("{text}\n"))
}
