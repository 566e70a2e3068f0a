//! Log lines on their way to the log broker.

use std::{fmt, mem};

use super::{
    convert::log_message,
    error::CallError,
    grpc::{Client, Outgoing, within},
    proto,
};
use crate::{
    limits::{ANSWER_MAX_BYTES, LOG_BATCH_BYTES, LOG_CLOSE_TIMEOUT},
    model::{LogLine, NodeId, ServiceId, TaskId},
};

/// Sends the lines of one subscription. Always [`LogSink::close`] it, also when there was nothing
/// to send: whoever asked waits for that. Dropping it cancels the stream, which the asker sees as
/// an error.
pub struct LogSink {
    /// Absent when the link was not open.
    client: Option<Client>,
    stream: Option<Outgoing>,
    subscription: Vec<u8>,
    node: NodeId,
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink").field("node", &self.node).finish_non_exhaustive()
    }
}

impl LogSink {
    pub(super) fn new(client: Option<Client>, subscription: &str, node: NodeId) -> Self {
        Self { client, stream: None, subscription: subscription.into(), node }
    }

    /// Sends lines of one task, in order, each with `attributes`; waits while the manager takes no more.
    ///
    /// # Errors
    /// [`CallError`]: the subscription is over, though the link may live on.
    pub async fn send(
        &mut self,
        service: &ServiceId,
        task: &TaskId,
        attributes: &[(String, String)],
        lines: Vec<LogLine>,
    ) -> Result<(), CallError> {
        let context = proto::LogContext {
            service_id: service.as_str().into(),
            node_id: self.node.as_str().into(),
            task_id: task.as_str().into(),
        };
        let attributes: Vec<proto::Pair> = attributes
            .iter()
            .map(|(key, value)| proto::Pair {
                key: key.as_bytes().into(),
                value: value.as_bytes().into(),
            })
            .collect();
        let of_each: usize = attributes.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
        let mut batch = Vec::new();
        let mut bytes = 0_usize;
        for line in lines {
            let size = line.data.len().saturating_add(of_each);
            if !batch.is_empty() && LOG_BATCH_BYTES < bytes.saturating_add(size) {
                self.push(mem::take(&mut batch), false).await?;
                bytes = 0;
            }
            bytes = bytes.saturating_add(size);
            batch.push(log_message(&context, &attributes, line));
        }
        if batch.is_empty() { Ok(()) } else { self.push(batch, false).await }
    }

    /// Tells that there will be no more lines, and waits until the manager has them all.
    ///
    /// # Errors
    /// [`CallError`], [`CallError::Deadline`] after [`LOG_CLOSE_TIMEOUT`].
    pub async fn close(mut self) -> Result<(), CallError> {
        within(LOG_CLOSE_TIMEOUT, async {
            self.push(Vec::new(), true).await?;
            match self.stream.take() {
                Some(stream) => stream.finish().await,
                None => Err(CallError::Closed),
            }
        })
        .await
    }

    async fn push(
        &mut self,
        messages: Vec<proto::LogMessage>,
        close: bool,
    ) -> Result<(), CallError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty @ None => {
                let client = self.client.as_ref().ok_or(CallError::Closed)?;
                let path = "/docker.swarmkit.v1.LogBroker/PublishLogs";
                empty.insert(client.client_stream(path, ANSWER_MAX_BYTES).await?)
            }
        };
        let subscription_id = self.subscription.clone();
        stream.send(&proto::PublishLogsMessage { subscription_id, messages, close }).await
    }
}
