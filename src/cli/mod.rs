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

/// The lines at the end of a log that are wanted; absent: all.
#[derive(Clone, Copy, Debug)]
struct Tail(Option<u64>);

/// As `docker logs` reads `--tail`: what is no count of lines means all (moby
/// `daemon/logger/loggerutils/logfile.go` is asked with -1).
fn tail(text: &str) -> Result<Tail, String> {
    Ok(Tail(text.parse().ok()))
}

/// show the logs of a task
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "logs")]
struct Logs {
    /// go on with new lines
    #[argh(switch, short = 'f')]
    follow: bool,

    /// only the last so many lines; all of them for anything that is no such number
    #[argh(option, from_str_fn(tail))]
    tail: Option<Tail>,

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
        let texts = globals_first(texts.iter().map(String::as_str));
        let command = command_of(&texts).unwrap_or_default().to_owned();
        if let Some(unknown) = unknown_command(&command) {
            return Failure::usage(unknown).report();
        }
        Arguments::from_args(&["edgeagent"], &texts).map_err(|exit| (exit, command))
    };
    drop(texts);
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err((exit, command)) => return early(&exit, &command),
    };
    match dispatch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The options that every command takes, each with a value.
const GLOBALS: [&str; 2] = ["--config", "--log-level"];

/// Every command, as [`Command`] has them.
const COMMANDS: [&str; 10] =
    ["join", "run", "leave", "token", "status", "ps", "logs", "image", "check", "version"];

/// Moves the global options before the command, where argh looks for them.
fn globals_first<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let (mut globals, mut others) = (Vec::new(), Vec::new());
    let mut texts = texts.peekable();
    while let Some(text) = texts.next() {
        let (name, value) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v)));
        if text == "--" {
            others.push(text);
            others.extend(texts.by_ref());
        } else if GLOBALS.contains(&name) {
            globals.push(name);
            globals.extend(value.or_else(|| texts.next()));
        } else {
            others.push(text);
        }
    }
    globals.extend(others);
    globals
}

/// The command, in arguments that begin with the global options.
fn command_of<'a>(texts: &[&'a str]) -> Option<&'a str> {
    let globals = texts.iter().take_while(|text| GLOBALS.contains(text)).count();
    let at = texts.chunks(2).take_while(|pair| pair.first().is_some_and(|t| GLOBALS.contains(t)));
    texts.get(at.count().max(globals) * 2).copied()
}

/// What to say of a command that does not exist.
fn unknown_command(command: &str) -> Option<String> {
    let known = command.is_empty() || command.starts_with('-') || command == "help";
    if known || COMMANDS.contains(&command) {
        return None;
    }
    let nearest = COMMANDS.iter().map(|name| (distance(command, name), name)).min();
    let hint = match nearest {
        Some((distance, name)) if distance <= 2 => format!(", perhaps {name} is meant"),
        Some(_) | None => String::new(),
    };
    Some(format!("unknown command {command:?}{hint}; edgeagent --help lists the commands"))
}

/// How many letters must be put in, left out or changed to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    // A mistyped command is short; the rest of a long word changes nothing.
    let from: Vec<char> = from.chars().take(32).collect();
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for letter in to.chars() {
        let mut left = row.first().map_or(0, |first| first + 1);
        let mut next = vec![left];
        for (pair, other) in row.windows(2).zip(&from) {
            let (above_left, above) = match pair {
                [a, b] => (*a, *b),
                _ => (0, 0),
            };
            left = (above_left + usize::from(*other != letter)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Help goes to standard output with 0, a usage error to standard error with 2.
fn early(exit: &argh::EarlyExit, command: &str) -> ExitCode {
    let text = exit.output.trim_end();
    if let Some(argument) = text.strip_prefix("Unrecognized argument: ") {
        let kind = if argument.starts_with('-') { "option" } else { "argument" };
        let shown = if argument.contains("SWMTKN") { "a join token" } else { argument };
        let of = if COMMANDS.contains(&command) { command } else { "" };
        let help = format!("edgeagent {of} --help").replace("  ", " ");
        return Failure::usage(format!("unknown {kind} {shown}; {help} lists what there is"))
            .report();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<Arguments, String> {
        let texts = globals_first(texts.iter().copied());
        Arguments::from_args(&["edgeagent"], &texts).map_err(|exit| exit.output)
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for texts in [
            &["--config", "/a", "--log-level", "debug", "status", "--json"][..],
            &["status", "--config", "/a", "--json", "--log-level", "debug"],
            &["--log-level", "debug", "status", "--json", "--config=/a"],
            &["--config=/a", "status", "--log-level=debug", "--json"],
        ] {
            let arguments = parsed(texts).unwrap();
            assert_eq!(arguments.config, Some(PathBuf::from("/a")), "{texts:?}");
            assert_eq!(arguments.log_level, Some(::log::LevelFilter::Debug), "{texts:?}");
            assert!(matches!(arguments.command, Command::Status(Status { json: true })));
            assert_eq!(command_of(&globals_first(texts.iter().copied())), Some("status"));
        }
        assert!(parsed(&["status", "--config"]).is_err(), "a value is wanted");
        assert_eq!(globals_first(["a", "--", "--config", "b"].into_iter()).first(), Some(&"a"));
    }

    #[test]
    fn an_unknown_command_is_told_with_the_nearest_one() {
        for name in COMMANDS {
            assert_eq!(unknown_command(name), None);
            // What is in the list is a command, and the other way round.
            let help = parsed(&[name, "--help"]).unwrap_err();
            assert!(help.starts_with(&format!("Usage: edgeagent {name}")), "{help}");
        }
        let usage = parsed(&["--help"]).unwrap_err();
        let listed = usage.split("Commands:").nth(1).unwrap();
        let lines =
            listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        assert_eq!(lines.count(), COMMANDS.len(), "{listed}");

        let said = unknown_command("statu").unwrap();
        assert!(said.contains("unknown command \"statu\"") && said.contains("status"), "{said}");
        assert!(unknown_command("jion").unwrap().contains("perhaps join"), "two letters");
        let said = unknown_command("exec").unwrap();
        assert!(!said.contains("perhaps") && said.contains("edgeagent --help"), "{said}");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
