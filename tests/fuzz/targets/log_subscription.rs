//! A SubscriptionMessage of a hostile LogBroker: whose logs are wanted, and which lines.

use edgeagent::{
    logs,
    model::{NodeId, ResourceLimits, Runtime, ServiceId, Task, TaskId, TaskState, TaskStatus},
    rpc,
};

/// Reads `data`; a wish means a task only by a name that stands in the message, and each name is a
/// part of a path and nothing else.
pub fn run(data: &[u8]) {
    let Ok(wish) = rpc::subscription(data) else { return };
    assert!(!wish.id.is_empty() && wish.id.len() <= 3 * data.len());
    assert!(wish.options.stdout || wish.options.stderr);
    let selector = &wish.selector;
    let named = selector.tasks.len() + selector.services.len() + selector.nodes.len();
    assert!(named <= data.len() / 2, "a name takes two bytes at least");
    let mut task = task();
    let other = logs::selects(selector, &task);
    let by = (selector.services.contains(&task.service_id), selector.nodes.contains(&task.node_id));
    assert_eq!(other, by != (false, false) || selector.tasks.contains(&task.id));
    for id in &selector.tasks {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!(id.as_str().bytes().all(plain) && !id.as_str().starts_with('.'), "{id}");
        task.id = id.clone();
        assert!(logs::selects(selector, &task));
    }
}

fn task() -> Task {
    Task {
        id: TaskId::new("task").expect("an identifier"),
        service_id: ServiceId::new("service").expect("an identifier"),
        slot: 1,
        node_id: NodeId::new("node").expect("an identifier"),
        name: String::new(),
        labels: [].into(),
        service_name: String::new(),
        service_labels: [].into(),
        status: TaskStatus::default(),
        desired_state: TaskState::Running,
        networks: Vec::new(),
        ports: Vec::new(),
        log_driver: None,
        generic_resources: Vec::new(),
        runtime: Runtime::Unknown,
        limits: ResourceLimits::default(),
    }
}
