//! What runs: command, environment, user, working directory, terminal.

use super::{Case, Image, case};

pub(super) const CASES: &[Case] = &[
    case("plain", &[]),
    case("arguments", &[]).words(&["sh", "/look", "a b", "", "$HOME", "{{.Task.Slot}}", "ü"]),
    case("entrypoint", &["--entrypoint", "sh /look one"]).words(&["two"]),
    case("image-entrypoint", &[]).image(Image::Rich),
    case("image-arguments", &[]).image(Image::Rich).words(&["three"]),
    case("image-entrypoint-other", &["--entrypoint", "sh /look", "--user", "root"])
        .image(Image::Rich),
    case("image-workdir-other", &["--workdir", "/data/folder", "--user", "app", "--env", "A=b"])
        .image(Image::Rich),
    case(
        "env",
        &[
            "--env", "A=1", "--env", "HOME=/here", "--env", "PATH=/bin:/usr/bin", "--env", "EMPTY=", "--env",
            "SPACES= a  b ", "--env", "FROM_IMAGE=no", "--env", "EQUAL=a=b", "--env", "A=2",
        ],
    ),
    case("env-host-name", &["--env", "HOSTNAME=mine", "--env", "TERM=dumb", "--hostname", "other"]),
    case(
        "templates",
        &[
            "--label", "probe.label=yes", "--container-label", "a={{.Task.ID}}",
            "--env", "SERVICE={{.Service.ID}} {{.Service.Name}} {{.Service.Labels}}",
            "--env", "LABEL={{index .Service.Labels \"probe.label\"}}",
            "--env", "NODE={{.Node.ID}} {{.Node.Hostname}} {{.Node.Platform.OS}} {{.Node.Platform.Architecture}}",
            "--env", "TASK={{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}",
            "--env", "IF={{if eq .Task.Slot \"1\"}}first{{else}}other{{end}}",
            "--env", "PRINT={{printf \"%s-%q\" .Task.Slot \"x\"}} {{join \"-\" \"a\" \"b\"}}",
            "--env", "TRIM=a {{- \" b \" -}} c",
            "--hostname", "{{.Node.Hostname}}-{{.Task.Slot}}",
            "--mount", "type=volume,source=v-{{.Service.Name}},target=/data/{{.Task.Slot}}",
        ],
    ),
    case("global", &["--mode", "global", "--env", "SLOT={{.Task.Slot}} {{.Task.Name}}"]),
    case("job", &["--mode", "replicated-job", "--env", "SLOT={{.Task.Slot}} {{.Task.Name}}"]),
    case("global-job", &["--mode", "global-job", "--env", "SLOT={{.Task.Slot}}"]),
    case("user", &["--user", "1000:1001"]),
    case("user-name", &["--user", "app", "--group", "extra", "--group", "4242"]),
    case("user-group-name", &["--user", "app:extra"]),
    case("user-unknown", &["--user", "12345"]),
    case("user-root-group", &["--user", "root:extra", "--group", "app", "--group", "app"]),
    case("user-groups", &["--user", "app:0", "--group", "0", "--group", "extra"]).image(Image::Rich),
    case("workdir", &["--workdir", "/made/here"]),
    case("workdir-user", &["--workdir", "/made/here", "--user", "app"]),
    case("workdir-dots", &["--workdir", "/tmp/../data/./folder/"]),
    case("workdir-link", &["--mount", "type=tmpfs,target=/data", "--workdir", "/data/deep/er"]),
    case("init", &["--init"]).meant(INIT),
    case("init-user", &["--init", "--user", "app", "--env", "A=b"]).meant(INIT),
    case("init-off", &["--init=false"]),
    case("tty", &["--tty"]),
    case("tty-user", &["--tty", "--user", "app"]),
    case("tty-init", &["--tty", "--init"]).meant(INIT),
    case("tty-read-only", &["--tty", "--read-only", "--env", "TERM=vt100"]),
];

pub(super) const INIT: &[super::Meant] = &[
    ("first: ", "our init is no file of the container"),
    ("open: ", "our init holds nothing open"),
    ("status: SigIgn", "our init ignores nothing"),
    ("mount: /sbin/docker-init ", "our init is no file of the container"),
    ("tree: ", "our init is no file of the container"),
    ("content: ", "our init is no file of the container"),
    ("cwd: ", "our init may not be looked into (CVE-2016-9962)"),
    ("order: ", "our init may not be looked into (CVE-2016-9962)"),
    ("call: cat /proc/1/environ", "our init may not be looked into (CVE-2016-9962)"),
    ("call: ls /proc/1/cwd/", "our init may not be looked into (CVE-2016-9962)"),
];
