//! `status`, `ps` and `logs`.

use std::{fmt::Write as _, fs, io, io::Write as _, thread};

use super::{Failure, Logs, plain, print, print_json};
use crate::{
    config::Config,
    limits::{LOG_BATCH_MAX_BYTES, LOG_FOLLOW_INTERVAL},
    logs::{self, Reader},
    model::{LogOptions, LogStream, TaskId},
    node::{
        self,
        control::{self, Request, Response, StaleImage, StatusReport, TaskReport},
    },
    seal::{IdentityStore, Machine, Sealer},
};

/// Prints the state of this node.
pub(super) fn status(config: &Config, json: bool) -> Result<(), Failure> {
    let report = match control::ask(&config.exec_root, &Request::Status) {
        Ok(Some(Response::Status(report))) => *report,
        Ok(Some(_)) => return Err(Failure::plain("the running agent answered something else")),
        Ok(None) => stored_status(config)?,
        Err(error) => return Err(Failure::failed("the running agent does not answer", &error)),
    };
    if json {
        print_json(&report)?;
    } else {
        print(format_args!("{}", screen(&report)))?;
    }
    if report.state == "not-joined" { Err(Failure::not_joined()) } else { Ok(()) }
}

/// What is known without an agent.
fn stored_status(config: &Config) -> Result<StatusReport, Failure> {
    if !config.data_root.exists() {
        return Ok(StatusReport::new("not-joined", None));
    }
    let sealer = Sealer::open(&config.data_root, &Machine::this(), &config.seal)?;
    let Some(identity) = IdentityStore::new(&config.data_root, sealer.clone()).load()? else {
        return Ok(StatusReport::new("not-joined", Some(sealer.tier())));
    };
    let mut report = StatusReport::new("stopped", Some(sealer.tier()))
        .counting(&node::stored_tasks(&config.data_root, &sealer)?);
    report.reason = String::from("no agent runs here; start it: edgeagent run");
    report.node_id = match (&identity.certificate, &identity.pending) {
        (Some(certificate), _) => Some(certificate.node_id.to_string()),
        (None, Some(pending)) => Some(pending.node_id.to_string()),
        (None, None) => None,
    };
    report.join_token = Some(String::from(node::token::kept(&identity)));
    report.managers = identity.seeds;
    Ok(report)
}

fn screen(report: &StatusReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a String can not fail.
            let _infallible = writeln!(text, "{name:<14}{}", plain(value));
        }
    };
    line("State:", &report.state);
    line("Reason:", &report.reason);
    line("Node:", report.node_id.as_deref().unwrap_or_default());
    if let Some(old) = &report.replaces {
        line(
            "Replaces:",
            &format!("{old}; if it is still listed, on a manager: docker node rm {old}"),
        );
    }
    line("Cluster:", report.cluster_id.as_deref().unwrap_or_default());
    line("Availability:", report.availability.as_deref().unwrap_or_default());
    line("Manager:", report.manager.as_deref().unwrap_or_default());
    line("Managers:", &report.managers.join(", "));
    if let Some(certificate) = &report.certificate {
        line(
            "Certificate:",
            &format!("valid {} to {}", certificate.not_before, certificate.not_after),
        );
        line("Root CA:", &format!("sha256:{}", certificate.root_ca));
    }
    line("Join token:", report.join_token.as_deref().unwrap_or_default());
    line("Seal:", &report.seal);
    line("Tasks:", &format!("{} running, {} in all", report.running, report.tasks));
    for pull in &report.pulls {
        let bytes = super::image::megabytes_of(pull.done_bytes, pull.total_bytes);
        line("Pulling:", &format!("{} {bytes}", pull.image));
    }
    for stale in &report.stale_images {
        let StaleImage { image, reason } = stale;
        line(
            "Stale?",
            &format!("{image} is the local one, its registry can not be asked: {reason}"),
        );
    }
    line("Last error:", report.last_error.as_deref().unwrap_or_default());
    if let Some(seconds) = report.next_attempt_seconds {
        line("Next attempt:", &format!("in {seconds} s"));
    }
    text
}

/// Lists the tasks of this node.
pub(super) fn ps(config: &Config, json: bool) -> Result<(), Failure> {
    let tasks = match control::ask(&config.exec_root, &Request::Tasks) {
        Ok(Some(Response::Tasks(tasks))) => tasks,
        Ok(Some(_)) => return Err(Failure::plain("the running agent answered something else")),
        Ok(None) => stored_tasks(config)?,
        Err(error) => return Err(Failure::failed("the running agent does not answer", &error)),
    };
    if json { print_json(&tasks) } else { print(format_args!("{}", table(&tasks))) }
}

fn stored_tasks(config: &Config) -> Result<Vec<TaskReport>, Failure> {
    if !config.data_root.exists() {
        return Ok(Vec::new());
    }
    let sealer = Sealer::open(&config.data_root, &Machine::this(), &config.seal)?;
    Ok(node::stored_tasks(&config.data_root, &sealer)?)
}

fn table(tasks: &[TaskReport]) -> String {
    let head = ["ID", "NAME", "IMAGE", "DESIRED", "STATE", "PID", "ERROR"].map(String::from);
    let rows: Vec<[String; 7]> = std::iter::once(head)
        .chain(tasks.iter().map(|task| {
            [
                task.id.clone(),
                if task.slot == 0 {
                    task.service.clone()
                } else {
                    format!("{}.{}", task.service, task.slot)
                },
                task.image.split('@').next().unwrap_or_default().to_owned(),
                task.desired.clone(),
                match &task.health {
                    Some(health) => format!("{} ({})", task.state, health.status.name()),
                    None => task.state.clone(),
                },
                task.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                task.err.clone(),
            ]
        }))
        .collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String can not fail.
            let _infallible = write!(line, "{:<width$}  ", plain(cell));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Prints the log of one task, from its ring; needs no agent.
pub(super) fn logs(config: &Config, arguments: &Logs) -> Result<(), Failure> {
    let task = find_task(config, &arguments.task)?;
    let dir = config.exec_root.join("tasks").join(task.as_str()).join("log");
    let options = LogOptions {
        stdout: true,
        stderr: true,
        follow: arguments.follow,
        tail: arguments.tail.and_then(|tail| tail.0),
        since: None,
    };
    let failed = |error: &io::Error| Failure::failed("cannot read the log", error);
    let mut reader = Reader::open(&dir, &options).map_err(|error| failed(&error))?;
    loop {
        let batch = reader.next_batch(LOG_BATCH_MAX_BYTES).map_err(|error| failed(&error))?;
        if batch.lines.is_empty() {
            if !arguments.follow {
                return Ok(());
            }
            thread::sleep(LOG_FOLLOW_INTERVAL);
            continue;
        }
        for line in &batch.lines {
            let mut bytes = Vec::new();
            if arguments.timestamps {
                bytes.extend_from_slice(logs::timestamp(line.at).as_bytes());
                bytes.push(b' ');
            }
            bytes.extend_from_slice(&line.data);
            let written = match line.stream {
                LogStream::Stdout => io::stdout().lock().write_all(&bytes),
                LogStream::Stderr => io::stderr().lock().write_all(&bytes),
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(Failure::failed("cannot write the log", &error)),
            }
        }
        // A terminal shows whole lines anyway; a pipe wants them now.
        if io::stdout().lock().flush().is_err() {
            return Ok(());
        }
    }
}

/// The one task whose id begins with `prefix`.
fn find_task(config: &Config, prefix: &str) -> Result<TaskId, Failure> {
    let tasks = config.exec_root.join("tasks");
    let entries = match fs::read_dir(&tasks) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::plain("there are no tasks on this node"));
        }
        Err(error) => {
            return Err(Failure::failed(&format!("cannot read {}", tasks.display()), &error));
        }
    };
    let mut found: Vec<TaskId> = entries
        .flatten()
        .filter_map(|entry| TaskId::new(entry.file_name().to_str()?).ok())
        .filter(|task| task.as_str().starts_with(prefix))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(task), true) => Ok(task),
        (Some(_), false) => Err(Failure::plain(format!("several tasks begin with {prefix}"))),
        (None, _) => Err(Failure::plain(format!(
            "no task on this node begins with {prefix}; edgeagent ps lists them"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::control::PullReport;

    #[test]
    fn pulls_and_stale_images_are_shown() {
        let report = StatusReport {
            pulls: vec![PullReport {
                image: String::from("web:1"),
                done_bytes: 12_340_000,
                total_bytes: 100_000_000,
            }],
            stale_images: vec![StaleImage {
                image: String::from("db:2"),
                reason: String::from("connection refused"),
            }],
            ..StatusReport::default()
        };
        let text = screen(&report);
        assert!(text.contains("Pulling:      web:1 12.3 of 100.0 MB (12 %)\n"), "{text}");
        assert!(text.contains("db:2 is the local one"), "{text}");
    }

    #[test]
    fn a_managers_text_can_not_command_the_terminal() {
        let report = StatusReport {
            state: String::from("backing-off"),
            reason: String::from("\x1b[2J\x1b]0;owned\x07 refused\nState: ready"),
            ..StatusReport::default()
        };
        let text = screen(&report);
        assert!(text.contains("?[2J?]0;owned? refused?State: ready\n"), "{text:?}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
