//! The control socket: one JSON request per connection, answered by lines of text.
//!
//! Whoever may write to the socket is the operator; the lab's folder is 0700.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream as Blocking,
    path::Path,
    rc::Rc,
};

use serde::{Deserialize, Serialize};
use smol::{
    future,
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::{UnixListener, UnixStream},
};

use crate::{
    cli::{Command, ServiceSubcommand},
    commands,
    lab::Lab,
    logs, proto,
};

const SOCKET: &str = "lab.sock";

/// One line of an answer.
#[derive(Debug, Serialize, Deserialize)]
enum Piece {
    Text(String),
    Failed(String),
    Done,
}

/// Opens the socket. One that nobody listens on is taken over.
///
/// # Errors
/// A lab runs in this folder, or the socket can not be made.
pub(crate) fn bind(dir: &Path) -> io::Result<UnixListener> {
    let path = dir.join(SOCKET);
    if Blocking::connect(&path).is_ok() {
        return Err(io::Error::other("another lab serves this folder"));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    UnixListener::bind(path)
}

/// Serves commands for ever.
pub(crate) async fn listen(lab: Rc<Lab>, listener: UnixListener) {
    let mut clients = Vec::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        clients.retain(|client: &smol::Task<()>| !client.is_finished());
        let serving = Rc::clone(&lab);
        clients.push(lab.executor.spawn(async move {
            // A client that went away needs no answer.
            drop(serve(&serving, stream).await);
        }));
    }
}

async fn serve(lab: &Rc<Lab>, mut stream: UnixStream) -> io::Result<()> {
    let mut line = String::new();
    smol::io::BufReader::new(&mut stream).read_line(&mut line).await?;
    let command: Command = serde_json::from_str(&line)?;
    if let Command::Service(service) = &command
        && let ServiceSubcommand::Logs(wish) = &service.command
    {
        return match commands::service_id(lab, &wish.service) {
            Ok(id) => {
                let tail = wish.tail.map_or(0, |lines| -i64::from(lines) - 1);
                follow(lab, stream, logs::read(lab, &id, wish.follow, tail)).await
            }
            Err(reason) => finish(stream, Err(reason)).await,
        };
    }
    finish(stream, commands::run(lab, command)).await
}

async fn finish(mut stream: UnixStream, result: Result<String, String>) -> io::Result<()> {
    let end = match result {
        Ok(text) => {
            write(&mut stream, &Piece::Text(text)).await?;
            Piece::Done
        }
        Err(reason) => Piece::Failed(reason),
    };
    write(&mut stream, &end).await
}

async fn write(stream: &mut UnixStream, piece: &Piece) -> io::Result<()> {
    let mut line = serde_json::to_vec(piece)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn follow(
    lab: &Lab,
    mut stream: UnixStream,
    reading: Option<logs::Reading>,
) -> io::Result<()> {
    let Some(reading) = reading else {
        return finish(stream, Err(String::from("no random numbers"))).await;
    };
    let mut watch = stream.clone();
    loop {
        let line = async { reading.lines.recv().await.ok() };
        let gone = async {
            drop(watch.read(&mut [0]).await);
            None
        };
        let Some(line) = future::or(line, gone).await else { break };
        write(&mut stream, &Piece::Text(shown(lab, &line))).await?;
    }
    write(&mut stream, &Piece::Done).await
}

/// A log line as `docker service logs` shows it.
fn shown(lab: &Lab, line: &proto::LogMessage) -> String {
    let context = line.context.clone().unwrap_or_default();
    let state = lab.state.borrow();
    let node = state.nodes.get(&context.node_id).map(|node| node.hostname.clone());
    let task = state.tasks.get(&context.task_id);
    let slot = task.map_or_else(String::new, |task| format!("{}.{}", task.service_name, task.slot));
    let text = String::from_utf8_lossy(&line.data);
    format!("{slot}.{}@{}    | {text}", context.task_id, node.unwrap_or_default())
}

/// Asks the lab of `dir`, and prints what it says.
///
/// # Errors
/// Why it failed.
pub(crate) fn ask(dir: &Path, command: &Command) -> Result<(), String> {
    let path = dir.join(SOCKET);
    let failed = |error: io::Error| {
        format!("no lab answers at {}: {error}. Start one: lab init, or lab serve", path.display())
    };
    let mut stream = Blocking::connect(&path).map_err(failed)?;
    let mut line = serde_json::to_vec(command).map_err(|error| error.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(failed)?;
    let mut out = io::stdout().lock();
    for line in BufReader::new(stream).lines() {
        let piece = serde_json::from_str(&line.map_err(failed)?);
        match piece.map_err(|error| error.to_string())? {
            Piece::Text(text) => {
                let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                written.map_err(|error| error.to_string())?;
            }
            Piece::Failed(reason) => return Err(reason),
            Piece::Done => return Ok(()),
        }
    }
    Err(String::from("the lab went away"))
}
