//! The command line. What is parsed here is also what goes through the control socket.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use argh::FromArgs;
use serde::{Deserialize, Serialize};

use crate::{
    state::{Availability, Restart},
    time,
};

/// lab: a swarm manager in one process, for demos and fault tests.
///
/// `lab init` starts a swarm and serves it until it is stopped; `lab serve` goes on with it.
/// Every other command talks to the lab that runs in the same --dir.
#[derive(FromArgs, Debug)]
pub(crate) struct Arguments {
    /// folder of this lab: state and control socket (default /var/tmp/edgeagent-lab)
    #[argh(option, default = "PathBuf::from(\"/var/tmp/edgeagent-lab\")")]
    pub(crate) dir: PathBuf,

    #[argh(subcommand)]
    pub(crate) command: Command,
}

#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand)]
pub(crate) enum Command {
    Init(Init),
    Serve(Serve),
    JoinToken(JoinToken),
    Node(NodeCommand),
    Service(ServiceCommand),
    Ca(CaCommand),
    Calls(Calls),
    Evil(Evil),
}

/// start a swarm in an empty folder, and serve it
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "init")]
pub(crate) struct Init {
    /// address and port to listen on (default 127.0.0.1:2377; port 0 finds one)
    #[argh(option, default = "String::from(\"127.0.0.1:2377\")")]
    pub(crate) bind: String,

    /// listen although --bind names every address of this machine (0.0.0.0 or [::])
    #[argh(switch)]
    pub(crate) any_address: bool,

    /// new nodes that one address may make per minute (default 60)
    #[argh(option, default = "60")]
    pub(crate) join_rate: u32,

    /// auto, or manual: newcomers wait for `lab node accept` (default auto)
    #[argh(option, from_str_fn(approval), default = "false")]
    pub(crate) approval: bool,

    /// secret of the join token, 25 digits of base 36 (default: random)
    #[argh(option, from_str_fn(secret))]
    pub(crate) secret: Option<String>,

    /// validity of node certificates (default 90d); below 1h it is exact
    #[argh(option, from_str_fn(time::duration), default = "Duration::from_secs(90 * 86_400)")]
    pub(crate) cert_validity: Duration,

    /// heartbeat period (default 5s)
    #[argh(option, from_str_fn(time::duration), default = "Duration::from_secs(5)")]
    pub(crate) heartbeat: Duration,

    /// evil modes to begin with, separated by commas
    #[argh(option, default = "String::new()")]
    pub(crate) evil: String,
}

/// serve the swarm of this folder again
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "serve")]
pub(crate) struct Serve {
    /// evil modes to begin with, separated by commas
    #[argh(option, default = "String::new()")]
    pub(crate) evil: String,
}

/// show the token with which workers join
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "join-token")]
pub(crate) struct JoinToken {
    /// make a new one; the old one is worthless
    #[argh(switch)]
    pub(crate) rotate: bool,
}

/// manage nodes
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "node")]
pub(crate) struct NodeCommand {
    #[argh(subcommand)]
    pub(crate) command: NodeSubcommand,
}

#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand)]
pub(crate) enum NodeSubcommand {
    Ls(NodeLs),
    Accept(NodeAccept),
    Reject(NodeReject),
    Update(NodeUpdate),
    Rm(NodeRm),
}

/// list nodes
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "ls")]
pub(crate) struct NodeLs {
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
}

/// let a waiting node in: its certificate is signed
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "accept")]
pub(crate) struct NodeAccept {
    /// node id, or the beginning of one
    #[argh(positional, arg_name = "NODE")]
    pub(crate) node: String,
}

/// refuse a waiting node, for good
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "reject")]
pub(crate) struct NodeReject {
    /// node id, or the beginning of one
    #[argh(positional, arg_name = "NODE")]
    pub(crate) node: String,
}

/// change what the scheduler may do with a node, or its labels
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "update")]
pub(crate) struct NodeUpdate {
    /// active, pause or drain
    #[argh(option, from_str_fn(availability))]
    pub(crate) availability: Option<Availability>,

    /// label to set, key=value
    #[argh(option, from_str_fn(pair))]
    pub(crate) label_add: Vec<(String, String)>,

    /// label to remove
    #[argh(option)]
    pub(crate) label_rm: Vec<String>,

    /// node id, the beginning of one, or host name
    #[argh(positional, arg_name = "NODE")]
    pub(crate) node: String,
}

/// remove a node; its certificate is refused from then on
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "rm")]
pub(crate) struct NodeRm {
    /// also when it is not down
    #[argh(switch)]
    pub(crate) force: bool,

    /// node id, the beginning of one, or host name
    #[argh(positional, arg_name = "NODE")]
    pub(crate) node: String,
}

/// manage services
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "service")]
pub(crate) struct ServiceCommand {
    #[argh(subcommand)]
    pub(crate) command: ServiceSubcommand,
}

#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand)]
pub(crate) enum ServiceSubcommand {
    Create(ServiceCreate),
    Ls(ServiceLs),
    Ps(ServicePs),
    Scale(ServiceScale),
    Update(ServiceUpdate),
    Rm(ServiceRm),
    Logs(ServiceLogs),
}

/// run an image on nodes
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "create")]
pub(crate) struct ServiceCreate {
    /// name of the service
    #[argh(option)]
    pub(crate) name: String,

    /// how many tasks (default 1)
    #[argh(option, default = "1")]
    pub(crate) replicas: u64,

    /// replicated, or global: one task on every node (default replicated)
    #[argh(option, from_str_fn(global), default = "false")]
    pub(crate) mode: bool,

    /// environment variable, NAME=value
    #[argh(option)]
    pub(crate) env: Vec<String>,

    /// label of the container, key=value
    #[argh(option, from_str_fn(pair))]
    pub(crate) container_label: Vec<(String, String)>,

    /// user, or uid:gid
    #[argh(option, default = "String::new()")]
    pub(crate) user: String,

    /// only `host`: share the node's network
    #[argh(option, from_str_fn(network), default = "false")]
    pub(crate) network: bool,

    /// a secret, NAME=FILE; the file is read by this command
    #[argh(option, from_str_fn(secret_file))]
    pub(crate) secret: Vec<(String, Vec<u8>)>,

    /// memory limit in bytes
    #[argh(option, default = "0")]
    pub(crate) limit_memory: u64,

    /// time between the stop signal and SIGKILL
    #[argh(option, from_str_fn(time::duration))]
    pub(crate) stop_grace_period: Option<Duration>,

    /// placement, such as node.hostname==edge
    #[argh(option)]
    pub(crate) constraint: Vec<String>,

    /// none, on-failure or any (default any)
    #[argh(option, from_str_fn(restart), default = "Restart::Any")]
    pub(crate) restart_condition: Restart,

    /// pause before an ended task is replaced (default 5s)
    #[argh(option, from_str_fn(time::duration), default = "Duration::from_secs(5)")]
    pub(crate) restart_delay: Duration,

    /// image and arguments
    #[argh(positional, arg_name = "IMAGE [ARG...]", greedy)]
    pub(crate) image: Vec<String>,
}

/// list services
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "ls")]
pub(crate) struct ServiceLs {
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
}

/// list the tasks of a service
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "ps")]
pub(crate) struct ServicePs {
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,

    /// name or id of the service
    #[argh(positional, arg_name = "SERVICE")]
    pub(crate) service: String,
}

/// set the number of tasks, SERVICE=N
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "scale")]
pub(crate) struct ServiceScale {
    /// service and number
    #[argh(positional, arg_name = "SERVICE=N", from_str_fn(pair))]
    pub(crate) target: (String, String),
}

/// change a service; its tasks are replaced
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "update")]
pub(crate) struct ServiceUpdate {
    /// image
    #[argh(option)]
    pub(crate) image: Option<String>,

    /// environment variable to set, NAME=value
    #[argh(option)]
    pub(crate) env_add: Vec<String>,

    /// a secret to set, NAME=FILE
    #[argh(option, from_str_fn(secret_file))]
    pub(crate) secret: Vec<(String, Vec<u8>)>,

    /// replace the tasks although nothing changed
    #[argh(switch)]
    pub(crate) force: bool,

    /// name or id of the service, and new arguments if any
    #[argh(positional, arg_name = "SERVICE [ARG...]", greedy)]
    pub(crate) service: Vec<String>,
}

/// remove a service and its tasks
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "rm")]
pub(crate) struct ServiceRm {
    /// name or id of the service
    #[argh(positional, arg_name = "SERVICE")]
    pub(crate) service: String,
}

/// show what the tasks of a service print
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "logs")]
pub(crate) struct ServiceLogs {
    /// go on with new lines
    #[argh(switch, short = 'f')]
    pub(crate) follow: bool,

    /// only the last so many lines of each task
    #[argh(option)]
    pub(crate) tail: Option<u32>,

    /// name or id of the service
    #[argh(positional, arg_name = "SERVICE")]
    pub(crate) service: String,
}

/// manage the root CA
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "ca")]
pub(crate) struct CaCommand {
    #[argh(subcommand)]
    pub(crate) command: CaSubcommand,
}

#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand)]
pub(crate) enum CaSubcommand {
    Rotate(CaRotate),
}

/// replace the root CA; ends when every node has a certificate of the new one
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "rotate")]
pub(crate) struct CaRotate {}

/// count the calls that were taken since the start or the last switch of an evil mode, as JSON
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "calls")]
pub(crate) struct Calls {}

/// be evil, or good again: `evil ls` lists the modes, `evil none` switches all off
#[derive(FromArgs, Debug, Serialize, Deserialize)]
#[argh(subcommand, name = "evil")]
pub(crate) struct Evil {
    /// mode, ls or none
    #[argh(positional, arg_name = "NAME")]
    pub(crate) name: String,

    /// on, off or a number that the mode uses (default on)
    #[argh(positional, arg_name = "on|off|N", from_str_fn(setting), default = "1")]
    pub(crate) setting: u64,
}

fn approval(text: &str) -> Result<bool, String> {
    match text {
        "auto" => Ok(false),
        "manual" => Ok(true),
        _ => Err(String::from("auto or manual")),
    }
}

fn global(text: &str) -> Result<bool, String> {
    match text {
        "replicated" => Ok(false),
        "global" => Ok(true),
        _ => Err(String::from("replicated or global")),
    }
}

fn network(text: &str) -> Result<bool, String> {
    if text == "host" { Ok(true) } else { Err(String::from("only host")) }
}

fn secret(text: &str) -> Result<String, String> {
    let digit = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
    if text.len() == 25 && text.chars().all(digit) {
        Ok(text.to_owned())
    } else {
        Err(String::from("25 digits and lower-case letters"))
    }
}

fn availability(text: &str) -> Result<Availability, String> {
    match text {
        "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        _ => Err(String::from("active, pause or drain")),
    }
}

fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "none" => Ok(Restart::None),
        "on-failure" => Ok(Restart::OnFailure),
        "any" => Ok(Restart::Any),
        _ => Err(String::from("none, on-failure or any")),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no ="))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn secret_file(text: &str) -> Result<(String, Vec<u8>), String> {
    let (name, path) = pair(text)?;
    let data = fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok((name, data))
}

fn setting(text: &str) -> Result<u64, String> {
    match text {
        "on" => Ok(1),
        "off" => Ok(0),
        number => number.parse().map_err(|_| String::from("on, off or a number")),
    }
}

/// `a,b,c` or `a=3,b` as modes with their numbers; which exist is somebody else's question.
pub(crate) fn modes(text: &str) -> Result<BTreeMap<String, u64>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| match name.split_once('=') {
            Some((name, number)) => Ok((name.to_owned(), setting(number)?)),
            None => Ok((name.to_owned(), 1)),
        })
        .collect()
}
